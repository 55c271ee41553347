#pragma once

#include <cstdint>

#include "kernels/cuda/kv_tile.cuh"
#include "kernels/cuda/paged_decode.h"
#include "kernels/cuda/shared_item.h"

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
  __device__ static constexpr bool has_tile() { return true; }

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

// Walks the rounds of all the shared items of its CTA, and the tile of each that one warp copies: the last round of an
// item has none for some of the warps.
class RoundCursor {
 public:
  __device__ RoundCursor(const DecodePlanView& plan, const std::int32_t* block_table, int warp)
      : items_(plan.shared_items()),
        index_(plan.shared_cta_indptr()[blockIdx.x]),
        end_(plan.shared_cta_indptr()[blockIdx.x + 1]),
        block_table_(block_table),
        first_position_(warp * kDecodeTileTokens) {
    enter();
  }

  __device__ bool valid() const { return index_ < end_; }
  __device__ bool has_tile() const { return position_ < kv_end_; }

  __device__ TileSpan span() const {
    return {blocks_, kv_head_, position_, min(kDecodeTileTokens, kv_end_ - position_)};
  }

  __device__ void advance() {
    position_ += kRoundTokens;
    if (position_ - first_position_ >= kv_end_) {
      ++index_;
      enter();
    }
  }

 private:
  __device__ void enter() {
    if (index_ < end_) {
      const SharedItem item = items_[index_];
      position_ = item.kv_begin + first_position_;
      kv_end_ = item.kv_end;
      kv_head_ = item.kv_head;
      blocks_ = block_table_ + item.first_block;
    }
  }

  const SharedItem* items_;
  std::int32_t index_;
  std::int32_t end_;
  const std::int32_t* block_table_;
  const std::int32_t* blocks_ = nullptr;
  std::int32_t first_position_;  // within a round
  std::int32_t kv_head_ = 0;
  std::int32_t kv_end_ = 0;
  std::int32_t position_ = 0;
};

// Stages of a warp's ring: the narrower a tile, the more, so that as many bytes are in flight.
template <int kRowBytes>
inline constexpr int kNumDecodeStages = kDecodeRingBytes / (kDecodeWarps * KvTile<kRowBytes>::kBytes);

inline constexpr int kMaxDecodeStages = kNumDecodeStages<64>;  // no row is narrower

// One warp's ring of stages: tiles are copied ahead in the order in which they are used. The rings of a CTA's warps lie
// side by side, stages and barriers alike.
template <int kRowBytes, typename TileCopy, typename Cursor>
class TileRing {
 public:
  static constexpr int kNumStages = kNumDecodeStages<kRowBytes>;
  static constexpr int kBytes = kNumStages * KvTile<kRowBytes>::kBytes;

  __device__ TileRing(std::uint32_t stages, std::uint32_t barriers, Cursor cursor, TileCopy copy)
      : stages_(stages), barriers_(barriers), cursor_(cursor), copy_(copy) {
    init_barriers();
    locate_next();
    for (int stage = 0; stage < kNumStages; ++stage) {
      start_copy(stage);
    }
  }

  // Waits for the next tile; it stays valid until release().
  __device__ std::uint32_t wait() const { return wait_for_warp(0); }

  // The same for the tile of the ring that is `distance` warps further, where all warps go from stage to stage
  // together.
  __device__ std::uint32_t wait_for_warp(int distance) const {
    ptx::wait_barrier(barrier(stage_ + distance * kNumStages), parity_);
    return stages_ + static_cast<std::uint32_t>(stage_ * KvTile<kRowBytes>::kBytes + distance * kBytes);
  }

  __device__ void release() {
    __syncwarp();
    start_copy(stage_);
    if (++stage_ == kNumStages) {
      stage_ = 0;
      parity_ ^= 1U;
    }
  }

 private:
  __device__ void init_barriers() const {
    if (threadIdx.x % 32 == 0) {
      for (int stage = 0; stage < kNumStages; ++stage) {
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
      if (cursor_.has_tile()) {
        copy_.issue(stages_ + static_cast<std::uint32_t>(stage * KvTile<kRowBytes>::kBytes), barrier(stage));
      } else {
        copy_.skip(barrier(stage));
      }
      cursor_.advance();
      locate_next();
    }
  }

  __device__ void locate_next() {
    if (cursor_.valid() && cursor_.has_tile()) {
      copy_.locate(cursor_.span());
    }
  }

  std::uint32_t stages_;
  std::uint32_t barriers_;
  int stage_ = 0;
  std::uint32_t parity_ = 0;
  Cursor cursor_;
  TileCopy copy_;
};

}  // namespace blendserve::cuda
