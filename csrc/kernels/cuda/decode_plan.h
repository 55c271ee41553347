#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cuda/host_device.h"

namespace blendserve::cuda {

inline constexpr std::int32_t kDecodeTileTokens = 16;  // KV ranges are cut at multiples of this

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

// The partial slots [partial_begin, partial_end) of one (row, KV head) pair, in order of position.
struct alignas(16) DecodeMerge {
  std::int32_t row;
  std::int32_t kv_head;
  std::int32_t partial_begin;
  std::int32_t partial_end;
};

struct alignas(16) DecodePlanHeader {
  std::int32_t num_items;
  std::int32_t num_merges;
  std::int32_t num_partials;
  std::int32_t unused;
};

// A plan is one flat buffer, so that it reaches the device in one copy; a kernel captured in a graph finds everything
// at offsets that depend on num_ctas alone:
//   header | cta_indptr [num_ctas + 1] | merges [num_ctas] | items
// CTA c computes items [cta_indptr[c], cta_indptr[c + 1]).
struct DecodePlanLayout {
  std::int64_t cta_indptr;  // byte offsets
  std::int64_t merges;
  std::int64_t items;
};

BLENDSERVE_HOST_DEVICE constexpr DecodePlanLayout decode_plan_layout(std::int32_t num_ctas) {
  constexpr auto kAlign = static_cast<std::int64_t>(alignof(DecodeItem));
  const std::int64_t cta_indptr = sizeof(DecodePlanHeader);
  const std::int64_t indptr_bytes = (std::int64_t{num_ctas} + 1) * 4;
  const std::int64_t merges = cta_indptr + (indptr_bytes + kAlign - 1) / kAlign * kAlign;
  return {cta_indptr, merges, merges + std::int64_t{num_ctas} * static_cast<std::int64_t>(sizeof(DecodeMerge))};
}

// Read access to a plan in host or device memory.
struct DecodePlanView {
  const std::byte* base;
  DecodePlanLayout layout;

  BLENDSERVE_HOST_DEVICE DecodePlanView(const void* plan, std::int32_t num_ctas)
      : base(static_cast<const std::byte*>(plan)), layout(decode_plan_layout(num_ctas)) {}

  BLENDSERVE_HOST_DEVICE const DecodePlanHeader& header() const {
    return *reinterpret_cast<const DecodePlanHeader*>(base);
  }
  BLENDSERVE_HOST_DEVICE const std::int32_t* cta_indptr() const {
    return reinterpret_cast<const std::int32_t*>(base + layout.cta_indptr);
  }
  BLENDSERVE_HOST_DEVICE const DecodeMerge* merges() const {
    return reinterpret_cast<const DecodeMerge*>(base + layout.merges);
  }
  BLENDSERVE_HOST_DEVICE const DecodeItem* items() const {
    return reinterpret_cast<const DecodeItem*>(base + layout.items);
  }
};

// The rows of one decode step: one query token each, attending to kv_lens[row] >= 1 positions.
struct DecodeBatch {
  std::span<const std::int32_t> kv_lens;       // [num_rows]
  std::span<const std::int32_t> block_indptr;  // [num_rows + 1]; only the first num_rows are read
  std::int32_t num_kv_heads = 0;
  std::int32_t num_ctas = 0;
};

// Enough bytes for the plan of any batch of up to max_rows rows.
std::int64_t decode_plan_bytes(std::int32_t max_rows, std::int32_t num_kv_heads, std::int32_t num_ctas);

// Partial slots that any plan for num_ctas CTAs stays within: a CTA's first and last range may be part of a row.
constexpr std::int64_t max_decode_partials(std::int32_t num_ctas) { return 2 * std::int64_t{num_ctas}; }

// Lays all (row, KV head) pairs end to end in tiles of kDecodeTileTokens and gives each CTA an equal stretch, so that
// CTAs differ by one tile at most. Returns the bytes of `plan` that were written (a prefix of it).
// Throws InvalidInput when the batch is malformed or `plan` (aligned to 16 bytes) is too small.
std::int64_t plan_decode(const DecodeBatch& batch, std::span<std::byte> plan);

}  // namespace blendserve::cuda
