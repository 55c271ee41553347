#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cuda/decode_plan_view.h"

namespace blendserve::cuda {

// The rows of one decode step: one query token each, attending to kv_lens[row] >= 1 positions.
struct DecodeBatch {
  std::span<const std::int32_t> kv_lens;       // [num_rows]
  std::span<const std::int32_t> block_indptr;  // [num_rows + 1]
  std::span<const std::int32_t> block_table;   // of the whole step; empty: no row shares blocks with another
  std::int32_t num_kv_heads = 0;
  std::int32_t group = 1;  // query heads of a KV head
  std::int32_t head_dim = 0;
  std::int32_t block_size = 0;
  std::int32_t num_ctas = 0;
  std::int64_t max_partials = 0;      // slots of the workspace
  std::int32_t kv_element_bytes = 2;  // of a cached element

  std::int32_t num_rows() const { return static_cast<std::int32_t>(kv_lens.size()); }
};

// Partial slots that any plan without shared runs stays within: a CTA's first and last range may be part of a row.
constexpr std::int64_t min_decode_partials(std::int32_t num_ctas) { return 2 * std::int64_t{num_ctas}; }

// Enough bytes for the plan of any batch of up to max_rows rows.
std::int64_t decode_plan_bytes(std::int32_t max_rows, std::int32_t num_kv_heads, std::int32_t num_ctas,
                               std::int64_t max_partials);

// Lays all (row, KV head) pairs end to end in tiles of kDecodeTileTokens and gives each CTA an equal stretch, so that
// CTAs differ by one tile at most; what rows share is laid out likewise, for a kernel of its own. Returns the bytes of
// `plan` that were written (a prefix of it).
// Throws InvalidInput when the batch is malformed or `plan` (aligned to 16 bytes) is too small.
std::int64_t plan_decode(const DecodeBatch& batch, std::span<std::byte> plan);

}  // namespace blendserve::cuda
