#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "model/linear.h"

namespace blendserve {

// The end of a decoder on the CPU, in float32: final norm, product with the vocabulary, softcap. It works on the rows
// that are asked for alone; each is a function of its hidden state, bit for bit.
class LmHead {
 public:
  // softcap: 0 for none. Throws InvalidInput when the sizes do not fit together.
  LmHead(std::vector<float> norm, Linear linear, float rms_norm_eps, float softcap);

  std::int64_t hidden_size() const { return linear_.weights->num_inputs(); }
  std::int64_t vocab_size() const { return linear_.weights->num_outputs(); }

  // out [token_ids.size(), hidden_size]: the rows of the product's matrix, for a model whose embeddings are tied to it.
  // Throws InvalidInput for an id that is not in the vocabulary.
  void embed(std::span<const std::int32_t> token_ids, float* out) const;

  // out [rows.size(), vocab_size] of the rows of hidden [T, hidden_size].
  void logits(const float* hidden, std::span<const std::int32_t> rows, float* out, ThreadPool& pool) const;

  // best [rows.size()]: the id of the largest logit, lowest id first among equals. The logits are not kept.
  void most_likely(const float* hidden, std::span<const std::int32_t> rows, std::int32_t* best, ThreadPool& pool) const;

 private:
  void most_likely_of_capped(const float* hidden, std::span<const std::int32_t> rows, std::int32_t* best,
                             ThreadPool& pool) const;
  std::vector<float> normed(const float* hidden, std::span<const std::int32_t> rows) const;

  std::vector<float> norm_;
  Linear linear_;
  float rms_norm_eps_;
  float softcap_;
};

}  // namespace blendserve
