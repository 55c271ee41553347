#pragma once

#include <cstdint>

namespace blendserve::cpu {

// What a decoder does to single rows between its matrix products. Every result is a function of the arguments alone,
// the same bits with every instruction set: sums run over 16 lanes in one fixed order, and what fuses is written so.
struct RowKernels {
  // out[i] = x[i] / sqrt(mean(x²) + eps) · weight[i]; `out` may be `x`.
  void (*rms_norm)(const float* x, const float* weight, float eps, std::int64_t n, float* out);

  // Rotates one head [2 · half] in place: pairs are `half` elements apart, as in transformers.
  void (*rotate)(float* head, const float* cos, const float* sin, std::int64_t half);

  // gate[i] = gate[i] · sigmoid(gate[i]) · up[i]
  void (*silu_mul)(float* gate, const float* up, std::int64_t n);

  // gate[i] = gelu(gate[i]) · up[i], with the approximation by tanh of Hendrycks and Gimpel (2016).
  void (*gelu_tanh_mul)(float* gate, const float* up, std::int64_t n);

  // out[i] += x[i]
  void (*add)(float* out, const float* x, std::int64_t n);

  // Whether any x[i] is not <= bound: it is larger, or one of them is NaN.
  bool (*any_above)(const float* x, float bound, std::int64_t n);

  // x[i] = cap · tanh(x[i] / cap)
  void (*softcap)(float* x, float cap, std::int64_t n);
};

// Those of active_isa().
const RowKernels& row_kernels();

}  // namespace blendserve::cpu
