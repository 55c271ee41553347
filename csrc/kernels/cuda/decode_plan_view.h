#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/host_device.h"

// A planned step as it lies in memory: written by the host, read by the kernels.
namespace blendserve::cuda {

inline constexpr std::int32_t kDecodeTileTokens = 16;  // KV ranges are read in tiles of so many positions
inline constexpr int kDecodeWarps = 8;                 // of a CTA

// One KV range of one (row, KV head) pair, computed by one CTA. `partial` is the slot of the workspace that takes the
// unnormalised result, or kNoPartial when the range is the row's whole context and the CTA writes the output itself.
struct alignas(16) DecodeItem {
  std::int32_t row;
  std::int32_t kv_head;
  std::int32_t kv_begin;
  std::int32_t kv_end;
  std::int32_t first_block;  // index into the block table of the row's first block
  std::int32_t partial;
  std::int32_t unused[2];
};

inline constexpr std::int32_t kNoPartial = -1;

// One KV range of one KV head that several rows share, computed by one CTA for all their queries at once.
struct alignas(16) SharedItem {
  std::int32_t kv_head;
  std::int32_t kv_begin;
  std::int32_t kv_end;
  std::int32_t first_block;  // of any of the rows
  std::int32_t first_member;
  std::int32_t num_members;
  std::int32_t unused[2];
};

// A row of a shared item and the slot that takes its partial result.
struct SharedMember {
  std::int32_t row;
  std::int32_t partial;
};

// The partial slots [partial_begin, partial_end) of one (row, KV head) pair, in order of position.
struct alignas(16) DecodeMerge {
  std::int32_t row;
  std::int32_t kv_head;
  std::int32_t partial_begin;
  std::int32_t partial_end;
};

// Offsets are in bytes from the start of the plan.
struct alignas(16) DecodePlanHeader {
  std::int32_t num_items;
  std::int32_t num_merges;
  std::int32_t num_partials;
  std::int32_t num_shared_items;
  std::int64_t merges;
  std::int64_t shared_items;
  std::int64_t members;
  std::int64_t end;
};

// A plan is one flat buffer, so that it reaches the device in one copy; a kernel captured in a graph finds the header
// and the indptrs at offsets that depend on num_ctas alone, and the rest through them:
//   header | cta_indptr [num_ctas + 1] | shared_cta_indptr [num_ctas + 1] | items | merges | shared items | members
// CTA c computes items [cta_indptr[c], cta_indptr[c + 1]) of the one kernel, and so for the shared items of the other.
class DecodePlanView {
 public:
  BLENDSERVE_HOST_DEVICE DecodePlanView(const void* plan, std::int32_t num_ctas)
      : base_(static_cast<const std::byte*>(plan)), num_ctas_(num_ctas) {}

  BLENDSERVE_HOST_DEVICE const DecodePlanHeader& header() const { return *at<DecodePlanHeader>(0); }
  BLENDSERVE_HOST_DEVICE const std::int32_t* cta_indptr() const { return at<std::int32_t>(sizeof(DecodePlanHeader)); }
  BLENDSERVE_HOST_DEVICE const std::int32_t* shared_cta_indptr() const { return cta_indptr() + num_ctas_ + 1; }
  BLENDSERVE_HOST_DEVICE const DecodeItem* items() const { return at<DecodeItem>(items_offset(num_ctas_)); }
  BLENDSERVE_HOST_DEVICE const DecodeMerge* merges() const { return at<DecodeMerge>(header().merges); }
  BLENDSERVE_HOST_DEVICE const SharedItem* shared_items() const { return at<SharedItem>(header().shared_items); }
  BLENDSERVE_HOST_DEVICE const SharedMember* members() const { return at<SharedMember>(header().members); }

  BLENDSERVE_HOST_DEVICE static constexpr std::int64_t items_offset(std::int32_t num_ctas) {
    constexpr auto kAlign = static_cast<std::int64_t>(alignof(DecodeItem));
    const std::int64_t indptr_bytes = 2 * (std::int64_t{num_ctas} + 1) * 4;
    return static_cast<std::int64_t>(sizeof(DecodePlanHeader)) + (indptr_bytes + kAlign - 1) / kAlign * kAlign;
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
