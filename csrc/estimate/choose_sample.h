#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tree/prefix_tree.h"

namespace blendserve {

enum class SampleMethod : std::uint8_t {
  kUniform,         // every request alike
  kMemoryVariance,  // by the spread of its memory time: Neyman allocation (Neyman 1934), each request its own stratum
};

struct SampleConfig {
  double rate = 0.01;  // expected share of the requests, from 1e-6 to 1, before each top-level subtree gets its least
  std::uint64_t seed = 0;
  SampleMethod method = SampleMethod::kUniform;
  std::span<const std::int32_t> max_output_lens = {};  // by row, or empty: no limits; for kMemoryVariance
  double prior_mean_len = 256.0;                       // of an output, tokens; for kMemoryVariance
};

// Requests to run first, so that the lengths of the others can be estimated.
struct LengthSample {
  std::vector<std::int32_t> rows;  // ascending
  std::vector<double> weights;     // by sample: 1 / its inclusion probability, the requests it stands for
};

// One pass along the leaf order for each top-level subtree (strata.h): each has its share, spread over its own
// subtrees, and at least one sample. Subtrees of 64 requests and more have up to 32, as far as half of the room goes:
// the few requests of a rare class may be most of a job's work. Where accidental subtrees are so many that this would
// take more than max(2 · rate · n, 1000) samples, the smallest share one pass. Throws InvalidInput.
LengthSample choose_sample(const PrefixTree& tree, const SampleConfig& config);

}  // namespace blendserve
