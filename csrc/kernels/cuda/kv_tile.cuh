#pragma once

#include <cstdint>

#include "base/kv_layout.h"
#include "kernels/cuda/blendserve_cuda.h"
#include "kernels/cuda/decode_plan.h"
#include "kernels/cuda/ptx.cuh"

// A tile is the keys and values of 16 consecutive positions of one KV head, in shared memory as atoms of 8 rows by 64
// elements (1 KB): [2 groups of 8 rows][K, V][head_dim / 64]. Within an atom the 16-byte chunk c of row r lies at chunk
// c ^ r, the 128-byte swizzle of the tensor copy engine: ldmatrix then meets no bank conflict, plain or transposed.
namespace blendserve::cuda {

template <int kHeadDim>
struct KvTile {
  static constexpr int kTokens = kDecodeTileTokens;
  static constexpr int kGroupRows = 8;
  static constexpr int kNumGroups = kTokens / kGroupRows;
  static constexpr int kPanels = kHeadDim / 64;
  static constexpr int kAtomBytes = 1024;
  static constexpr int kGroupBytes = 2 * kPanels * kAtomBytes;
  static constexpr int kBytes = kNumGroups * kGroupBytes;

  // Byte offset of the 16-byte chunk `chunk` (of head_dim / 8) of a row of K (kv = 0) or V (kv = 1).
  __device__ static constexpr std::uint32_t offset(int kv, int row, int chunk) {
    const int atom = (row / kGroupRows) * 2 * kPanels + kv * kPanels + chunk / 8;
    return static_cast<std::uint32_t>(atom * kAtomBytes + (row % kGroupRows) * 128 + ((chunk ^ row) % 8) * 16);
  }
};

// Where the rows of a tile are: one tile of one item.
struct TileSpan {
  const std::int32_t* blocks;  // of the item's row
  std::int32_t kv_head;
  std::int32_t begin;     // first position
  std::int32_t num_rows;  // 1..16
};

__device__ __forceinline__ KvLayout kv_layout(const blendserve_paged_decode_params& params) {
  return {params.num_blocks, params.num_kv_heads, params.block_size, params.head_dim};
}

// Copies tiles with cp.async, 16 bytes a lane: any page size, sm_80 and newer. `locate` looks the addresses of the next
// tile up, long before `issue` needs them.
template <int kHeadDim>
class AsyncTileCopy {
 public:
  static constexpr std::uint32_t kArrivals = 32;
  static constexpr bool kNeedsSm90 = false;

  __device__ AsyncTileCopy(const blendserve_paged_decode_params& params, const CUtensorMap&)
      : kv_(static_cast<const std::uint16_t*>(params.kv)), layout_(kv_layout(params)), lane_(threadIdx.x % 32) {}

  __device__ void locate(const TileSpan& span) {
    num_rows_ = span.num_rows;
    const int row = lane_ % KvTile<kHeadDim>::kTokens;
    if (row < num_rows_) {
      const std::int32_t position = span.begin + row;
      const std::int32_t block = span.blocks[position / layout_.block_size];
      row_offset_ = layout_.k_offset(block, span.kv_head) + std::int64_t{position % layout_.block_size} * kHeadDim;
    }
  }

  __device__ void issue(std::uint32_t tile, std::uint32_t barrier) const {
    constexpr int kChunks = kHeadDim / 8;
    constexpr int kRowsAtOnce = 32 / kChunks;
    const std::int64_t v_distance = layout_.num_kv_heads * layout_.tile_size();
    const int chunk = lane_ % kChunks;
#pragma unroll
    for (int first = 0; first < KvTile<kHeadDim>::kTokens; first += kRowsAtOnce) {
      const int row = first + lane_ / kChunks;
      const std::int64_t offset = __shfl_sync(0xFFFFFFFF, row_offset_, row) + chunk * 8;
      if (row < num_rows_) {
        ptx::copy_async_16(tile + KvTile<kHeadDim>::offset(0, row, chunk), kv_ + offset);
        ptx::copy_async_16(tile + KvTile<kHeadDim>::offset(1, row, chunk), kv_ + offset + v_distance);
      }
    }
    ptx::arrive_after_async_copies(barrier);
  }

 private:
  const std::uint16_t* kv_;
  KvLayout layout_;
  int lane_;
  int num_rows_ = 0;
  std::int64_t row_offset_ = 0;  // of the K row lane % 16, in elements
};

// Copies tiles with the bulk tensor copy engine, one instruction per 8 rows of K and V: sm_90 and newer, page sizes
// that are multiples of 8.
template <int kHeadDim>
class BulkTileCopy {
 public:
  static constexpr std::uint32_t kArrivals = 1;
  static constexpr bool kNeedsSm90 = true;

  __device__ BulkTileCopy(const blendserve_paged_decode_params& params, const CUtensorMap& map)
      : map_(&map), layout_(kv_layout(params)), lane_(threadIdx.x % 32) {}

  __device__ void locate(const TileSpan& span) {
    using Tile = KvTile<kHeadDim>;
    num_groups_ = (span.num_rows + Tile::kGroupRows - 1) / Tile::kGroupRows;
    if (lane_ < num_groups_) {
      const std::int32_t position = span.begin + lane_ * Tile::kGroupRows;
      const std::int32_t block = span.blocks[position / layout_.block_size];
      map_row_ = (block * 2 * layout_.num_kv_heads + span.kv_head) * layout_.block_size + position % layout_.block_size;
    }
  }

  __device__ void issue(std::uint32_t tile, std::uint32_t barrier) const {
#if __CUDA_ARCH__ >= 900
    using Tile = KvTile<kHeadDim>;
    if (lane_ == 0) {
      ptx::arrive_expecting(barrier, static_cast<std::uint32_t>(num_groups_ * Tile::kGroupBytes));
    }
    __syncwarp();
    if (lane_ < num_groups_) {
      ptx::copy_bulk_tensor(tile + static_cast<std::uint32_t>(lane_ * Tile::kGroupBytes), map_, map_row_, barrier);
    }
#endif
  }

 private:
  const CUtensorMap* map_;
  KvLayout layout_;
  int lane_;
  int num_groups_ = 0;
  std::int32_t map_row_ = 0;  // row of the tensor map where this lane's group begins
};

}  // namespace blendserve::cuda
