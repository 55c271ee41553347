#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/cuda/host_device.h"

namespace blendserve::cuda {

// What an online softmax carries beside its unnormalised output, in the base-2 domain: scores are multiplied by
// scale * log2(e) first, so that every weight is one exp2.
struct SoftmaxState {
  float max = -std::numeric_limits<float>::infinity();
  float sum = 0.0F;  // of exp2(score - max)
};

// What a partial result counts in a union whose maximum is `max` (finite: a union has at least one token).
BLENDSERVE_HOST_DEVICE inline float softmax_weight(const SoftmaxState& part, float max) {
  return exp2f(part.max - max);
}

BLENDSERVE_HOST_DEVICE inline SoftmaxState softmax_union(const SoftmaxState& a, const SoftmaxState& b) {
  const float max = fmaxf(a.max, b.max);
  return {max, a.sum * softmax_weight(a, max) + b.sum * softmax_weight(b, max)};
}

// Of one partial result of `group` queries: float32 outputs, unnormalised, and states.
constexpr std::int64_t decode_partial_bytes(std::int32_t group, std::int32_t head_dim) {
  return group * (std::int64_t{head_dim} * std::int64_t{sizeof(float)} + std::int64_t{sizeof(SoftmaxState)});
}

// Partial results of one query, `stride` apart: states [num_parts * stride], outputs [num_parts * stride, head_dim].
struct PartialRows {
  const SoftmaxState* states;
  const float* outputs;
  std::int32_t num_parts;
  std::int32_t stride;
  std::int32_t head_dim;

  BLENDSERVE_HOST_DEVICE SoftmaxState merged_state() const {
    SoftmaxState merged = states[0];
    for (std::int32_t part = 1; part < num_parts; ++part) {
      merged = softmax_union(merged, states[std::int64_t{part} * stride]);
    }
    return merged;
  }

  // Element d of the output over all parts, unnormalised.
  BLENDSERVE_HOST_DEVICE float weighted_sum(const SoftmaxState& merged, std::int32_t d) const {
    float sum = 0.0F;
    for (std::int32_t part = 0; part < num_parts; ++part) {
      const std::int64_t at = std::int64_t{part} * stride;
      sum += softmax_weight(states[at], merged.max) * outputs[at * head_dim + d];
    }
    return sum;
  }

  BLENDSERVE_HOST_DEVICE float merged_output(const SoftmaxState& merged, std::int32_t d) const {
    return weighted_sum(merged, d) / merged.sum;
  }
};

}  // namespace blendserve::cuda
