#pragma once

#include <cstdint>

#include "kernels/cuda/kv_tile.cuh"
#include "kernels/cuda/paged_decode.h"

namespace blendserve::cuda {

// Walks the tiles that one warp reads, over all the items of its CTA.
class TileCursor {
 public:
  __device__ TileCursor(const DecodePlanView& plan, const std::int32_t* block_table, int warp)
      : items_(plan.items()),
        index_(plan.cta_indptr()[blockIdx.x]),
        end_(plan.cta_indptr()[blockIdx.x + 1]),
        block_table_(block_table),
        first_position_(warp * kDecodeTileTokens) {
    enter();
  }

  __device__ bool valid() const { return index_ < end_; }

  __device__ TileSpan span() const {
    return {blocks_, kv_head_, position_, min(kDecodeTileTokens, kv_end_ - position_)};
  }

  __device__ void advance() {
    position_ += kDecodeWarps * kDecodeTileTokens;
    if (position_ >= kv_end_) {
      ++index_;
      enter();
    }
  }

 private:
  // Goes to this warp's first tile of item index_, or of the next item that has one.
  __device__ void enter() {
    for (; index_ < end_; ++index_) {
      const DecodeItem item = items_[index_];
      position_ = item.kv_begin + first_position_;
      if (position_ < item.kv_end) {
        kv_end_ = item.kv_end;
        kv_head_ = item.kv_head;
        blocks_ = block_table_ + item.first_block;
        return;
      }
    }
  }

  const DecodeItem* items_;
  std::int32_t index_;
  std::int32_t end_;
  const std::int32_t* block_table_;
  const std::int32_t* blocks_ = nullptr;
  std::int32_t first_position_;  // within an item
  std::int32_t kv_head_ = 0;
  std::int32_t kv_end_ = 0;
  std::int32_t position_ = 0;
};

// Stages of a warp's ring.
template <int kHeadDim>
inline constexpr int kNumDecodeStages = kDecodeRingBytes / (kDecodeWarps * KvTile<kHeadDim>::kBytes);

// One warp's ring of stages: tiles are copied ahead in the order in which they are used.
template <int kHeadDim, typename TileCopy>
class TileRing {
 public:
  static constexpr int kBytes = kNumDecodeStages<kHeadDim> * KvTile<kHeadDim>::kBytes;

  __device__ TileRing(std::uint32_t stages, std::uint32_t barriers, TileCursor cursor, TileCopy copy)
      : stages_(stages), barriers_(barriers), cursor_(cursor), copy_(copy) {
    init_barriers();
    if (cursor_.valid()) {
      copy_.locate(cursor_.span());
    }
    for (int stage = 0; stage < kNumDecodeStages<kHeadDim>; ++stage) {
      start_copy(stage);
    }
  }

  // Waits for the next tile; it stays valid until release().
  __device__ std::uint32_t wait() const {
    ptx::wait_barrier(barrier(stage_), parity_);
    return stages_ + static_cast<std::uint32_t>(stage_ * KvTile<kHeadDim>::kBytes);
  }

  __device__ void release() {
    __syncwarp();
    start_copy(stage_);
    if (++stage_ == kNumDecodeStages<kHeadDim>) {
      stage_ = 0;
      parity_ ^= 1U;
    }
  }

 private:
  __device__ void init_barriers() const {
    if (threadIdx.x % 32 == 0) {
      for (int stage = 0; stage < kNumDecodeStages<kHeadDim>; ++stage) {
        ptx::init_barrier(barrier(stage), TileCopy::kArrivals);
      }
#if __CUDA_ARCH__ >= 900
      ptx::fence_barrier_init();
#endif
    }
    __syncwarp();
  }

  __device__ std::uint32_t barrier(int stage) const { return barriers_ + static_cast<std::uint32_t>(stage * 8); }

  __device__ void start_copy(int stage) {
    if (cursor_.valid()) {
      copy_.issue(stages_ + static_cast<std::uint32_t>(stage * KvTile<kHeadDim>::kBytes), barrier(stage));
      cursor_.advance();
      if (cursor_.valid()) {
        copy_.locate(cursor_.span());
      }
    }
  }

  std::uint32_t stages_;
  std::uint32_t barriers_;
  int stage_ = 0;
  std::uint32_t parity_ = 0;
  TileCursor cursor_;
  TileCopy copy_;
};

}  // namespace blendserve::cuda
