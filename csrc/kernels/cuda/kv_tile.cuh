#pragma once

#include <cstdint>

#include "base/kv_layout.h"
#include "kernels/cuda/blendserve_cuda.h"
#include "kernels/cuda/decode_plan_view.h"
#include "kernels/cuda/fast_divisor.h"
#include "kernels/cuda/ptx.cuh"

namespace blendserve::cuda {

// Of one key or value.
template <typename Kv, int kHeadDim>
inline constexpr int kKvRowBytes = kHeadDim * int{sizeof(Kv)};

// A tile is the keys and values of 16 consecutive positions of one KV head, kRowBytes each, in shared memory as panels
// of 16 rows by 128 bytes, or 64 where a row has no more: [K, V][panels][16][kWidth]. Where a row's 16-byte chunks lie
// within it is the swizzle of the tensor copy engine for that width: ldmatrix then meets no bank conflict, plain or
// transposed.
template <int kRowBytes>
struct KvTile {
  static constexpr int kTokens = kDecodeTileTokens;
  static constexpr int kWidth = kRowBytes < 128 ? kRowBytes : 128;
  static constexpr int kPanelBytes = kTokens * kWidth;
  static constexpr int kValues = kTokens * kRowBytes;  // byte offset of V
  static constexpr int kBytes = 2 * kValues;
  static_assert(kRowBytes % kWidth == 0 && (kWidth == 64 || kWidth == 128));

  // Byte offset of the 16-byte chunk `chunk` of a row of K.
  __device__ static constexpr std::uint32_t offset(int row, int chunk) {
    constexpr int kChunks = kWidth / 16;
    const int swizzled = (chunk ^ (row * kWidth / 128)) % kChunks;
    return static_cast<std::uint32_t>(chunk / kChunks * kPanelBytes + row * kWidth + swizzled * 16);
  }

  // From the address of chunk 0 or 1 of a row to that of the chunk 2 * step further.
  __device__ static constexpr std::uint32_t advance(std::uint32_t address, int step) {
    constexpr int kSteps = kWidth / 32;  // of a panel
    return (address ^ static_cast<std::uint32_t>(step % kSteps * 32)) +
           static_cast<std::uint32_t>(step / kSteps * kPanelBytes);
  }
};

// Where the rows of a tile are.
struct TileSpan {
  const std::int32_t* blocks;  // of the request
  std::int32_t kv_head;
  std::int32_t begin;     // first position
  std::int32_t num_rows;  // 1..16
};

// What a copy needs to know beside the tile.
struct KvSource {
  const unsigned char* kv;
  const CUtensorMap* map;  // of kv; only for bulk copies
  KvLayout layout;         // in bytes: head_dim are those of a row
  FastDivisor block_size;
};

// Copies of tiles come in two kinds with the same members. `locate` starts the load of a tile's block ids, long before
// `issue` turns them into addresses, so that nobody waits for them.

// With cp.async, 16 bytes a lane: any page size, sm_80 and newer.
template <int kRowBytes>
class AsyncTileCopy {
 public:
  static constexpr std::uint32_t kArrivals = 32;
  static constexpr bool kNeedsSm90 = false;

  __device__ explicit AsyncTileCopy(const KvSource& source) : source_(source) {}

  __device__ void locate(const TileSpan& span) {
    kv_head_ = span.kv_head;
    num_rows_ = span.num_rows;
    const std::int32_t position = span.begin + min(lane_ % KvTile<kRowBytes>::kTokens, num_rows_ - 1);
    const std::int32_t index = source_.block_size.quotient(position);
    offset_in_block_ = source_.block_size.remainder(position, index);
    block_ = span.blocks[index];
  }

  // In place of issue(): completes the barrier's phase without a tile.
  __device__ void skip(std::uint32_t barrier) const { ptx::arrive(barrier); }

  __device__ void issue(std::uint32_t tile, std::uint32_t barrier) const {
    using Tile = KvTile<kRowBytes>;
    constexpr int kChunks = kRowBytes / 16;
    constexpr int kRowsAtOnce = 32 / kChunks;
    const KvLayout& layout = source_.layout;
    const std::int64_t row_offset =
        layout.k_offset(block_, kv_head_) + std::int64_t{offset_in_block_} * kRowBytes;  // of row lane % 16
    const std::int64_t v_distance = layout.num_kv_heads * layout.tile_size();
    const int chunk = lane_ % kChunks;
#pragma unroll
    for (int first = 0; first < Tile::kTokens; first += kRowsAtOnce) {
      const int row = first + lane_ / kChunks;
      const auto* from = source_.kv + __shfl_sync(0xFFFFFFFF, row_offset, row) + chunk * 16;
      if (row < num_rows_) {
        const std::uint32_t to = tile + Tile::offset(row, chunk);
        ptx::copy_async_16(to, from);
        ptx::copy_async_16(to + Tile::kValues, from + v_distance);
      }
    }
    ptx::arrive_after_async_copies(barrier);
  }

 private:
  KvSource source_;
  int lane_ = static_cast<int>(threadIdx.x) % 32;
  std::int32_t kv_head_ = 0;
  std::int32_t num_rows_ = 0;
  std::int32_t block_ = 0;  // of row lane % 16
  std::int32_t offset_in_block_ = 0;
};

// With the bulk tensor copy engine, one instruction per tile: sm_90 and newer, page sizes that are multiples of 16. It
// brings whole tiles: what lies past the end of the context too.
template <int kRowBytes>
class BulkTileCopy {
 public:
  static constexpr std::uint32_t kArrivals = 1;
  static constexpr bool kNeedsSm90 = true;

  __device__ explicit BulkTileCopy(const KvSource& source) : source_(source) {}

  __device__ void locate(const TileSpan& span) {
    const std::int32_t index = source_.block_size.quotient(span.begin);
    row_in_block_ = span.kv_head * source_.layout.block_size + source_.block_size.remainder(span.begin, index);
    block_ = span.blocks[index];
  }

  __device__ void skip(std::uint32_t barrier) const {
    if (threadIdx.x % 32 == 0) {
      ptx::arrive(barrier);
    }
  }

  __device__ void issue(std::uint32_t tile, std::uint32_t barrier) const {
#if __CUDA_ARCH__ >= 900
    if (threadIdx.x % 32 == 0) {
      ptx::arrive_expecting(barrier, KvTile<kRowBytes>::kBytes);
      ptx::copy_bulk_tensor(tile, source_.map,
                            block_ * 2 * source_.layout.num_kv_heads * source_.layout.block_size + row_in_block_,
                            barrier);
    }
#endif
  }

 private:
  KvSource source_;
  std::int32_t block_ = 0;
  std::int32_t row_in_block_ = 0;  // of the tile's first K row, counted over the heads
};

}  // namespace blendserve::cuda
