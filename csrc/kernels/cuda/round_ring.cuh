#pragma once

#include <cstdint>

#include "kernels/cuda/attention_plan_view.h"
#include "kernels/cuda/kv_tile.cuh"

namespace blendserve::cuda {

template <typename Kv>
inline constexpr int kRoundBytes = 16 * 1024 * int{sizeof(Kv)};
inline constexpr int kMaxRingBytes = 128 * 1024;
inline constexpr int kMaxRoundStages = kMaxRingBytes / (16 * 1024);  // no element is narrower

// A CTA's ring of stages in shared memory, each one round: round_tokens() positions of a KV head as tiles side by side.
// Each warp copies rows of every round, 16 bytes a lane, in the order in which rounds are used and ahead by as many as
// there are stages, across the ends of items. Positions past the end of an item are zero, and so are a head's elements
// from head_dim on.
template <typename Kv, int kHeadDim>
class RoundRing {
 public:
  using Tile = KvTile<kKvRowBytes<Kv, kHeadDim>>;
  static constexpr int kTokens = round_tokens(kHeadDim);
  static constexpr int kTiles = kTokens / Tile::kTokens;
  static constexpr int kBytes = kRoundBytes<Kv>;
  static_assert(kTiles * Tile::kBytes == kBytes);

  // num_stages: a power of two, of `stages` and `barriers`. All threads of the CTA must come.
  __device__ RoundRing(unsigned char* stages, std::uint64_t* barriers, int num_stages, const AttentionPlanView& plan,
                       const std::int32_t* block_table, const KvSource& source)
      : stages_(ptx::shared_address(stages)),
        barriers_(ptx::shared_address(barriers)),
        num_stages_(num_stages),
        items_(plan.items()),
        index_(plan.cta_indptr()[blockIdx.x]),
        end_(plan.cta_indptr()[blockIdx.x + 1]),
        block_table_(block_table),
        source_(source) {
    if (threadIdx.x == 0) {
      for (int stage = 0; stage < num_stages; ++stage) {
        ptx::init_barrier(barrier(stage), kThreads);
      }
    }
    if (source.layout.head_dim < kRowBytes) {
      for (int at = static_cast<int>(threadIdx.x) * 16; at < num_stages * kBytes; at += kThreads * 16) {
        *reinterpret_cast<uint4*>(stages + at) = uint4{0, 0, 0, 0};
      }
    }
    __syncthreads();
    enter();
    for (int stage = 0; stage < num_stages; ++stage) {
      start_copy(stage);
    }
  }

  // Of the CTA's items.
  __device__ std::int32_t end() const { return end_; }

  // Waits for the next round; its first tile is valid until release().
  __device__ std::uint32_t wait() const {
    ptx::wait_barrier(barrier(stage()), (num_used_ & num_stages_) == 0 ? 0U : 1U);
    return stage_address(stage());
  }

  // All threads of the CTA come here when none reads the round any more.
  __device__ void release() {
    __syncthreads();
    start_copy(stage());
    ++num_used_;
  }

 private:
  static constexpr int kRowBytes = kKvRowBytes<Kv, kHeadDim>;
  static constexpr int kThreads = kDecodeWarps * 32;
  static constexpr int kRows = kTokens / kDecodeWarps;  // of a round that a warp copies
  static constexpr int kChunks = kRowBytes / 16;        // of a row, 16 bytes each
  static constexpr int kRowsAtOnce = 32 / kChunks;

  __device__ int stage() const { return num_used_ & (num_stages_ - 1); }
  __device__ std::uint32_t barrier(int stage) const { return barriers_ + static_cast<std::uint32_t>(stage * 8); }
  __device__ std::uint32_t stage_address(int stage) const {
    return stages_ + static_cast<std::uint32_t>(stage * kBytes);
  }

  // Of the round to be copied next: read where it is needed, since registers are short.
  __device__ const AttentionItem& item() const { return items_[index_]; }

  // Goes to the first round of item index_.
  __device__ void enter() {
    if (index_ < end_) {
      position_ = item().kv_begin;
      locate();
    }
  }

  // Of row lane % kRows of those that this warp copies, or of the item's last where the item has ended.
  __device__ std::int32_t located_position() const {
    return min(position_ + first_row_ + lane_ % kRows, item().kv_end - 1);
  }

  // Starts the load of the block ids, long before start_copy() turns them into addresses.
  __device__ void locate() {
    block_ = block_table_[item().first_block + source_.block_size.quotient(located_position())];
  }

  __device__ void start_copy(int stage) {
    if (index_ == end_) {
      return;
    }
    const KvLayout& layout = source_.layout;
    const std::int32_t kv_end = item().kv_end;
    const std::int32_t position = located_position();
    const std::int32_t in_block = source_.block_size.remainder(position, source_.block_size.quotient(position));
    const std::int64_t located = layout.k_offset(block_, item().kv_head) + std::int64_t{in_block} * layout.head_dim;
    const std::int64_t v_distance = layout.num_kv_heads * layout.tile_size();
    const int chunk = lane_ % kChunks;
#pragma unroll 1  // else the compiler keeps all the addresses' common parts in registers
    for (int first = 0; first < kRows; first += kRowsAtOnce) {
      const int in_warp = first + lane_ / kChunks;
      const auto* from = source_.kv + __shfl_sync(0xFFFFFFFF, located, in_warp) + chunk * 16;
      if (chunk * 16 < layout.head_dim) {
        const int row = first_row_ + in_warp;
        const std::uint32_t to = stage_address(stage) + static_cast<std::uint32_t>(row / Tile::kTokens * Tile::kBytes) +
                                 Tile::offset(row % Tile::kTokens, chunk);
        const bool is_there = position_ + row < kv_end;
        ptx::copy_async_16_or_zero(to, from, is_there);
        ptx::copy_async_16_or_zero(to + Tile::kValues, from + v_distance, is_there);
      }
    }
    ptx::arrive_after_async_copies(barrier(stage));
    position_ += kTokens;
    if (position_ < kv_end) {
      locate();
    } else {
      ++index_;
      enter();
    }
  }

  std::uint32_t stages_;
  std::uint32_t barriers_;
  int num_stages_;
  int num_used_ = 0;  // rounds
  // The round to be copied next.
  const AttentionItem* items_;
  std::int32_t index_;
  std::int32_t end_;
  const std::int32_t* block_table_;
  KvSource source_;
  std::int32_t position_ = 0;
  std::int32_t block_ = 0;  // of located_position()
  int lane_ = static_cast<int>(threadIdx.x) % 32;
  int first_row_ = static_cast<int>(threadIdx.x) / 32 * kRows;
};

}  // namespace blendserve::cuda
