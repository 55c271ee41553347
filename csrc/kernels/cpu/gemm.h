#pragma once

#include <cstdint>

#include "base/thread_pool.h"
#include "kernels/cpu/packed_matrix.h"

namespace blendserve::cpu {

struct GemmParams {
  const float* a = nullptr;  // [num_rows, num_inputs], rows a_stride elements apart
  std::int64_t a_stride = 0;
  std::int32_t num_rows = 0;
  const PackedMatrix* weights = nullptr;
  float* out = nullptr;  // [num_rows, num_outputs], rows out_stride elements apart; must not overlap `a`
  std::int64_t out_stride = 0;
  const float* bias = nullptr;  // [num_outputs] or null
  bool accumulate = false;      // out += instead of out =
};

// out = a · weights^T (+ bias) (+ out).
//
// An element of `out` is a function of its row of `a`, its output's weights and what is added to it, bit for bit: the
// other rows, its place among them, the number of threads and the instruction set never show. It is one chain of fused
// multiply-adds from 0 over the inputs in rising order, in float32; for int8 that is then multiplied by the output's
// scale; then the bias and then the old value are added, each step rounded.
//
// NaN and infinity go the way of the arithmetic, into their own row or output only. Which NaN it is is unspecified.
void gemm(const GemmParams& params, ThreadPool& pool);

// Whether `value` takes the place of `best` in an arg-max, as torch has it: the first among equals stays, a NaN is
// larger than all others.
constexpr bool is_larger(float value, float best) { return !(value <= best) && best == best; }

// best[row] = the output with the largest value gemm() would write to that row, by is_larger(), without writing any.
void gemm_argmax(const float* a, std::int64_t a_stride, std::int32_t num_rows, const PackedMatrix& weights,
                 const float* bias, std::int32_t* best, ThreadPool& pool);

}  // namespace blendserve::cpu
