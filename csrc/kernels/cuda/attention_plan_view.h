#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/host_device.h"

// A planned step of paged_attention as it lies in memory: written by the host, read by the kernels.
//
// A sequence's query rows are its (query token, query head of a KV head) pairs: row = token * group + head. A tile is
// up to kTileRows of them, for one KV head: it reads every position that any of them attends to.
namespace blendserve::cuda {

inline constexpr std::int32_t kTileRows = 128;

// Positions that a CTA brings to shared memory at a time, 32 KB of keys and values.
BLENDSERVE_HOST_DEVICE constexpr std::int32_t round_tokens(std::int32_t head_dim) {
  return head_dim <= 64 ? 128 : head_dim <= 128 ? 64 : 32;
}

// One KV range of one tile, computed by one CTA. Rows number `partial` and following of the workspace take the
// unnormalised result; kNoPartialRow when the range is all that the tile attends to and the CTA writes the output
// itself.
struct alignas(16) AttentionItem {
  std::int32_t first_token;  // of the sequence, among the step's query tokens
  std::int32_t first_row;    // of the tile, among the sequence's query rows
  std::int32_t num_rows;     // 1..kTileRows
  std::int32_t kv_head;
  std::int32_t num_before;  // positions before the sequence's first query token
  std::int32_t kv_begin;
  std::int32_t kv_end;
  std::int32_t first_block;  // index into the block table of the sequence's first block
  std::int32_t partial;
  std::int32_t unused[3];
};

inline constexpr std::int32_t kNoPartialRow = -1;

// The partial results of one tile: `num_parts` times `num_rows` rows of the workspace, in order of position.
struct alignas(16) AttentionMerge {
  std::int32_t first_token;
  std::int32_t first_row;
  std::int32_t num_rows;
  std::int32_t kv_head;
  std::int32_t partial;
  std::int32_t num_parts;
  std::int32_t unused[2];
};

struct alignas(16) AttentionPlanHeader {
  std::int32_t num_items;
  std::int32_t num_merges;
  std::int64_t merges;  // in bytes from the start of the plan
};

// header | cta_indptr [num_ctas + 1] | items | merges; CTA c computes items [cta_indptr[c], cta_indptr[c + 1]).
class AttentionPlanView {
 public:
  BLENDSERVE_HOST_DEVICE AttentionPlanView(const void* plan, std::int32_t num_ctas)
      : base_(static_cast<const std::byte*>(plan)), num_ctas_(num_ctas) {}

  BLENDSERVE_HOST_DEVICE const AttentionPlanHeader& header() const { return *at<AttentionPlanHeader>(0); }
  BLENDSERVE_HOST_DEVICE const std::int32_t* cta_indptr() const {
    return at<std::int32_t>(sizeof(AttentionPlanHeader));
  }
  BLENDSERVE_HOST_DEVICE const AttentionItem* items() const { return at<AttentionItem>(items_offset(num_ctas_)); }
  BLENDSERVE_HOST_DEVICE const AttentionMerge* merges() const { return at<AttentionMerge>(header().merges); }

  BLENDSERVE_HOST_DEVICE static constexpr std::int64_t items_offset(std::int32_t num_ctas) {
    constexpr auto kAlign = static_cast<std::int64_t>(alignof(AttentionItem));
    return static_cast<std::int64_t>(sizeof(AttentionPlanHeader)) +
           ((std::int64_t{num_ctas} + 1) * 4 + kAlign - 1) / kAlign * kAlign;
  }

 private:
  template <typename Element>
  BLENDSERVE_HOST_DEVICE const Element* at(std::int64_t offset) const {
    return reinterpret_cast<const Element*>(base_ + offset);
  }

  const std::byte* base_;
  std::int32_t num_ctas_;
};

}  // namespace blendserve::cuda
