#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/bfloat16.h"
#include "kernels/cpu/kv_append.h"

namespace blendserve::cpu {

struct AttentionShape {
  std::int32_t num_kv_heads = 1;
  std::int32_t group = 1;
  std::int32_t head_dim = 16;
  std::int32_t block_size = 16;
  KvDtype kv_dtype = KvDtype::kFloat32;
  std::int32_t window = 0;
  float softcap = 0.0F;

  std::int32_t num_heads() const { return num_kv_heads * group; }
  float scale() const { return 1.0F / std::sqrt(static_cast<float>(head_dim)); }
};

inline std::vector<float> random_floats(std::size_t n, std::uint32_t seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0.0F, 1.0F);
  std::vector<float> values(n);
  std::generate(values.begin(), values.end(), [&] { return normal(engine); });
  return values;
}

inline float stored(float value, KvDtype dtype) {
  return dtype == KvDtype::kFloat32 ? value : bfloat16_to_float(bfloat16_from_float(value));
}

// The whole Q, K and V of one sequence; which part is computed when is up to the test.
struct Sequence {
  std::int32_t len = 0;
  std::vector<float> q;  // [len, num_heads, head_dim]
  std::vector<float> k;  // [len, num_kv_heads, head_dim]
  std::vector<float> v;

  Sequence(const AttentionShape& shape, std::int32_t num_positions, std::uint32_t seed)
      : len(num_positions),
        q(random_floats(static_cast<std::size_t>(len * shape.num_heads() * shape.head_dim), 3 * seed)),
        k(random_floats(static_cast<std::size_t>(len * shape.num_kv_heads * shape.head_dim), 3 * seed + 1)),
        v(random_floats(static_cast<std::size_t>(len * shape.num_kv_heads * shape.head_dim), 3 * seed + 2)) {}
};

// The next `qo_len` tokens of a sequence of which `done` are already in the cache.
struct Chunk {
  std::int32_t sequence = 0;
  std::int32_t done = 0;
  std::int32_t qo_len = 0;
};

// Sequences with a paged cache whose blocks are dealt out in shuffled order; unwritten memory is NaN.
class PagedCase {
 public:
  PagedCase(const AttentionShape& shape, const std::vector<Sequence>& sequences, std::uint32_t seed)
      : shape_(shape), sequences_(sequences) {
    std::int32_t num_blocks = 0;
    for (const Sequence& sequence : sequences) {
      num_blocks += (sequence.len + shape.block_size - 1) / shape.block_size;
    }
    num_blocks += 3;
    std::vector<BlockId> shuffled(static_cast<std::size_t>(num_blocks));
    std::iota(shuffled.begin(), shuffled.end(), 0);
    std::shuffle(shuffled.begin(), shuffled.end(), std::mt19937(seed));
    for (const Sequence& sequence : sequences) {
      const auto n = (sequence.len + shape.block_size - 1) / shape.block_size;
      blocks_.emplace_back(shuffled.end() - n, shuffled.end());
      shuffled.resize(shuffled.size() - static_cast<std::size_t>(n));
    }
    layout_ = {.num_blocks = num_blocks,
               .num_kv_heads = shape.num_kv_heads,
               .block_size = shape.block_size,
               .head_dim = shape.head_dim};
    const std::size_t element_size = shape.kv_dtype == KvDtype::kFloat32 ? 4 : 2;
    kv_.assign(static_cast<std::size_t>(layout_.layer_size()) * element_size, 0xFF);
  }

  // Appends the K/V of the chunks, then attends: out [sum of qo_len, num_heads, head_dim].
  std::vector<float> step(const std::vector<Chunk>& chunks, ThreadPool& pool) {
    gather(chunks);
    kv_append(append_params(), pool);
    std::vector<float> out(q_.size(), std::numeric_limits<float>::quiet_NaN());
    paged_attention(attention_params(out.data()), pool);
    return out;
  }

  void gather(const std::vector<Chunk>& chunks) {
    q_.clear(), k_.clear(), v_.clear(), slots_.clear(), kv_lens_.clear(), block_table_.clear();
    qo_indptr_ = {0}, block_indptr_ = {0};
    for (const Chunk& chunk : chunks) {
      const Sequence& sequence = sequences_[static_cast<std::size_t>(chunk.sequence)];
      const auto& blocks = blocks_[static_cast<std::size_t>(chunk.sequence)];
      const std::int32_t end = chunk.done + chunk.qo_len;
      copy_tokens(sequence.q, shape_.num_heads(), chunk, q_);
      copy_tokens(sequence.k, shape_.num_kv_heads, chunk, k_);
      copy_tokens(sequence.v, shape_.num_kv_heads, chunk, v_);
      for (std::int32_t p = chunk.done; p < end; ++p) {
        slots_.push_back(std::int64_t{blocks[static_cast<std::size_t>(p / shape_.block_size)]} * shape_.block_size +
                         p % shape_.block_size);
      }
      qo_indptr_.push_back(qo_indptr_.back() + chunk.qo_len);
      kv_lens_.push_back(end);
      block_table_.insert(block_table_.end(), blocks.begin(),
                          blocks.begin() + (end + shape_.block_size - 1) / shape_.block_size);
      block_indptr_.push_back(static_cast<std::int32_t>(block_table_.size()));
    }
  }

  KvAppendParams append_params() {
    const std::int64_t stride = std::int64_t{shape_.num_kv_heads} * shape_.head_dim;
    return {.k = k_.data(),
            .v = v_.data(),
            .slot_mapping = slots_.data(),
            .kv = kv_.data(),
            .k_stride = stride,
            .v_stride = stride,
            .num_tokens = static_cast<std::int64_t>(slots_.size()),
            .layout = layout_,
            .kv_dtype = shape_.kv_dtype};
  }

  PagedAttentionParams attention_params(float* out) const {
    return {.q = q_.data(),
            .kv = kv_.data(),
            .out = out,
            .qo_indptr = qo_indptr_.data(),
            .kv_lens = kv_lens_.data(),
            .block_indptr = block_indptr_.data(),
            .block_table = block_table_.data(),
            .q_stride = std::int64_t{shape_.num_heads()} * shape_.head_dim,
            .num_tokens = qo_indptr_.back(),
            .num_seqs = static_cast<std::int32_t>(kv_lens_.size()),
            .num_heads = shape_.num_heads(),
            .window = shape_.window,
            .scale = shape_.scale(),
            .softcap = shape_.softcap,
            .layout = layout_,
            .kv_dtype = shape_.kv_dtype};
  }

 private:
  void copy_tokens(const std::vector<float>& from, std::int32_t num_heads, const Chunk& chunk,
                   std::vector<float>& to) const {
    const std::ptrdiff_t token_len = std::ptrdiff_t{num_heads} * shape_.head_dim;
    to.insert(to.end(), from.begin() + chunk.done * token_len, from.begin() + (chunk.done + chunk.qo_len) * token_len);
  }

  AttentionShape shape_;
  const std::vector<Sequence>& sequences_;
  KvLayout layout_;
  std::vector<std::vector<BlockId>> blocks_;
  std::vector<unsigned char> kv_;
  std::vector<float> q_, k_, v_;
  std::vector<std::int64_t> slots_;
  std::vector<std::int32_t> qo_indptr_, kv_lens_, block_indptr_;
  std::vector<BlockId> block_table_;
};

// Every row of one sequence, computed alone and in one chunk: out [len, num_heads, head_dim].
inline std::vector<float> whole(const AttentionShape& shape, const Sequence& sequence, ThreadPool& pool) {
  const std::vector<Sequence> sequences{sequence};
  return PagedCase(shape, sequences, 1).step({{.sequence = 0, .done = 0, .qo_len = sequence.len}}, pool);
}

}  // namespace blendserve::cpu
