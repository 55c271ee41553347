#pragma once

#include <cstdint>

#include "base/kv_layout.h"
#include "kernels/cuda/blendserve_cuda.h"
#include "kernels/cuda/decode_plan_view.h"
#include "kernels/cuda/fast_divisor.h"
#include "kernels/cuda/ptx.cuh"

namespace blendserve::cuda {

// A tile is the keys and values of 16 consecutive positions of one KV head, in shared memory as panels of 16 rows by 64
// elements: [K, V][head_dim / 64][16][64]. Within a panel the 16-byte chunk c of row r lies at chunk c ^ (r % 8), the
// 128-byte swizzle of the tensor copy engine: ldmatrix then meets no bank conflict, plain or transposed.
template <int kHeadDim>
struct KvTile {
  static constexpr int kTokens = kDecodeTileTokens;
  static constexpr int kPanels = kHeadDim / 64;
  static constexpr int kPanelBytes = kTokens * 128;
  static constexpr int kValues = kPanels * kPanelBytes;  // byte offset of V
  static constexpr int kBytes = 2 * kValues;

  // Byte offset of the 16-byte chunk `chunk` (of head_dim / 8) of a row of K.
  __device__ static constexpr std::uint32_t offset(int row, int chunk) {
    return static_cast<std::uint32_t>(chunk / 8 * kPanelBytes + row * 128 + (chunk ^ row) % 8 * 16);
  }

  // From the address of chunk 0 or 1 of a row to that of the chunk 2 * step further.
  __device__ static constexpr std::uint32_t advance(std::uint32_t address, int step) {
    return (address ^ static_cast<std::uint32_t>(step % 4 * 32)) + static_cast<std::uint32_t>(step / 4 * kPanelBytes);
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
  const std::uint16_t* kv;
  const CUtensorMap* map;  // of kv; only for bulk copies
  KvLayout layout;
  FastDivisor block_size;
};

// Copies of tiles come in two kinds with the same members. `locate` starts the load of a tile's block ids, long before
// `issue` turns them into addresses, so that nobody waits for them.

// With cp.async, 16 bytes a lane: any page size, sm_80 and newer.
template <int kHeadDim>
class AsyncTileCopy {
 public:
  static constexpr std::uint32_t kArrivals = 32;
  static constexpr bool kNeedsSm90 = false;

  __device__ explicit AsyncTileCopy(const KvSource& source) : source_(source) {}

  __device__ void locate(const TileSpan& span) {
    kv_head_ = span.kv_head;
    num_rows_ = span.num_rows;
    const std::int32_t position = span.begin + min(lane_ % KvTile<kHeadDim>::kTokens, num_rows_ - 1);
    const std::int32_t index = source_.block_size.quotient(position);
    offset_in_block_ = source_.block_size.remainder(position, index);
    block_ = span.blocks[index];
  }

  // In place of issue(): completes the barrier's phase without a tile.
  __device__ void skip(std::uint32_t barrier) const { ptx::arrive(barrier); }

  __device__ void issue(std::uint32_t tile, std::uint32_t barrier) const {
    using Tile = KvTile<kHeadDim>;
    constexpr int kChunks = kHeadDim / 8;
    constexpr int kRowsAtOnce = 32 / kChunks;
    const KvLayout& layout = source_.layout;
    const std::int64_t row_offset =
        layout.k_offset(block_, kv_head_) + std::int64_t{offset_in_block_} * kHeadDim;  // of row lane % 16
    const std::int64_t v_distance = layout.num_kv_heads * layout.tile_size();
    const int chunk = lane_ % kChunks;
#pragma unroll
    for (int first = 0; first < Tile::kTokens; first += kRowsAtOnce) {
      const int row = first + lane_ / kChunks;
      const auto* from = source_.kv + __shfl_sync(0xFFFFFFFF, row_offset, row) + chunk * 8;
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
template <int kHeadDim>
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
      ptx::arrive_expecting(barrier, KvTile<kHeadDim>::kBytes);
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
