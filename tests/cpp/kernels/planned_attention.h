#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "kernels/cuda/attention_plan.h"

namespace blendserve::cuda {

// A sequence's query tokens and the positions before them.
struct SequenceChunk {
  std::int32_t num_before = 0;
  std::int32_t qo_len = 1;

  std::int32_t kv_len() const { return num_before + qo_len; }
};

struct AttentionCase {
  std::vector<SequenceChunk> chunks{};
  std::int32_t num_kv_heads = 1;
  std::int32_t group = 1;
  std::int32_t head_dim = 64;
  std::int32_t block_size = 16;
  std::int32_t window = 0;
  std::int32_t num_ctas = 1;
};

// Its plan in host memory; the block table is that of sequences with their blocks one after the other.
class PlannedAttention {
 public:
  explicit PlannedAttention(AttentionCase each) : case_(std::move(each)) {
    for (const SequenceChunk& chunk : case_.chunks) {
      first_tokens_.push_back(num_tokens_);
      qo_lens_.push_back(chunk.qo_len);
      kv_lens_.push_back(chunk.kv_len());
      first_blocks_.push_back(num_blocks_);
      num_tokens_ += chunk.qo_len;
      num_blocks_ += (chunk.kv_len() + case_.block_size - 1) / case_.block_size;
    }
    memory_.resize(static_cast<std::size_t>(attention_plan_bytes(batch())) / sizeof(std::max_align_t) + 1);
    used_bytes_ = plan_attention(batch(), std::as_writable_bytes(std::span(memory_)));
  }

  const AttentionCase& shape() const { return case_; }
  std::int32_t num_tokens() const { return num_tokens_; }
  std::int32_t num_blocks() const { return num_blocks_; }
  std::int32_t first_token(std::size_t s) const { return first_tokens_[s]; }
  std::int32_t first_block(std::size_t s) const { return first_blocks_[s]; }
  std::int64_t used_bytes() const { return used_bytes_; }
  const void* data() const { return memory_.data(); }

  AttentionBatch batch() const {
    return {.first_tokens = first_tokens_,
            .qo_lens = qo_lens_,
            .kv_lens = kv_lens_,
            .first_blocks = first_blocks_,
            .num_kv_heads = case_.num_kv_heads,
            .group = case_.group,
            .head_dim = case_.head_dim,
            .window = case_.window,
            .num_ctas = case_.num_ctas};
  }

  AttentionPlanView view() const { return {memory_.data(), case_.num_ctas}; }
  std::span<const AttentionItem> items() const {
    return {view().items(), static_cast<std::size_t>(view().header().num_items)};
  }
  std::span<const AttentionMerge> merges() const {
    return {view().merges(), static_cast<std::size_t>(view().header().num_merges)};
  }

 private:
  AttentionCase case_;
  std::vector<std::int32_t> first_tokens_, qo_lens_, kv_lens_, first_blocks_;
  std::vector<std::max_align_t> memory_;
  std::int32_t num_tokens_ = 0;
  std::int32_t num_blocks_ = 0;
  std::int64_t used_bytes_ = 0;
};

// Decodes, chunks behind a prefix and whole prompts, up to `max_len` positions each.
inline AttentionCase random_attention_case(std::uint64_t seed, std::int32_t max_len) {
  auto draw = [seed, counter = std::uint64_t{0}](std::int32_t low, std::int32_t high) mutable {
    return low + static_cast<std::int32_t>(random_uniform(seed, counter++) * (high - low + 1));
  };
  AttentionCase random;
  const std::int32_t num_seqs = draw(1, 4);
  for (std::int32_t s = 0; s < num_seqs; ++s) {
    const std::int32_t kv_len = draw(1, max_len);
    const std::int32_t kind = draw(0, 2);
    const std::int32_t qo_len = kind == 0 ? 1 : kind == 1 ? draw(1, kv_len) : kv_len;
    random.chunks.push_back({kv_len - qo_len, qo_len});
  }
  random.num_kv_heads = draw(1, 3);
  random.group = draw(1, 9);
  random.head_dim = 8 * draw(1, 32);
  random.block_size = draw(1, 33);
  random.window = draw(0, 1) == 0 ? 0 : draw(1, max_len);
  random.num_ctas = draw(1, 12);
  return random;
}

}  // namespace blendserve::cuda
