#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cuda/attention_plan_view.h"

namespace blendserve::cuda {

// The sequences that one call of paged_attention computes, any of a step's. Sequence s has qo_lens[s] >= 1 query tokens
// from first_tokens[s] on, the last of its kv_lens[s] positions.
struct AttentionBatch {
  std::span<const std::int32_t> first_tokens;  // [num_seqs]
  std::span<const std::int32_t> qo_lens;       // [num_seqs]
  std::span<const std::int32_t> kv_lens;       // [num_seqs]
  std::span<const std::int32_t> first_blocks;  // [num_seqs] index into the block table
  std::int32_t num_kv_heads = 0;
  std::int32_t group = 1;  // query heads of a KV head
  std::int32_t head_dim = 0;
  std::int32_t window = 0;  // positions a token attends to, itself included; 0: all before it
  std::int32_t num_ctas = 0;
};

// Rows of the workspace that any plan stays within: a CTA's first and last item may be part of a tile.
constexpr std::int64_t max_partial_rows(std::int32_t num_ctas) { return 2 * std::int64_t{num_ctas} * kTileRows; }

// Enough bytes for the plan of `batch`.
std::int64_t attention_plan_bytes(const AttentionBatch& batch);

// Lays the rounds of all tiles end to end and gives each CTA a stretch of equal cost. Returns the bytes of `plan` that
// were written (a prefix of it). Throws InvalidInput when the batch is malformed or `plan` (aligned to 16 bytes) is too
// small.
std::int64_t plan_attention(const AttentionBatch& batch, std::span<std::byte> plan);

}  // namespace blendserve::cuda
