#pragma once

#include <cstdint>

#include "kernels/cpu/attention_split.h"
#include "kernels/cpu/exp2_simd.h"
#include "kernels/cpu/tanh_simd.h"

// From exponents to the weights of softmax.
namespace blendserve::cpu::simd {

template <class Vector>
void cap(float* row, std::int32_t begin, std::int32_t end, float exponent_cap) {
  for (std::int32_t p = begin; p < end; p += Vector::kLen) {
    Vector::store(row + p, Vector::multiply(Vector::broadcast(exponent_cap), tanh<Vector>(Vector::load(row + p))));
  }
}

[[gnu::always_inline]] inline void hide(float* row, std::int32_t begin, std::int32_t end) {
  for (std::int32_t p = begin; p < end; ++p) {
    row[p] = -__builtin_inff();
  }
}

// Turns the exponents of one row into weights 2^(exponent - max). Lanes are counted from the start of the split, and
// what fills up the first and the last vector adds 0: the sum is that of the same terms in the same order whatever the
// others.
template <class Vector>
void weigh(float* row, std::int32_t row_begin, std::int32_t row_end, float exponent_cap, float* max, float* sum) {
  using Floats = typename Vector::Floats;
  const std::int32_t begin = row_begin / kLanes * kLanes;
  const std::int32_t end = padded(row_end);
  if (exponent_cap != 0.0F) {
    cap<Vector>(row, begin, end, exponent_cap);
  }
  hide(row, begin, row_begin);
  hide(row, row_end, end);
  Floats maxes = Vector::load(row + begin);
  for (std::int32_t p = begin + Vector::kLen; p < end; p += Vector::kLen) {
    maxes = Vector::max(maxes, Vector::load(row + p));
  }
  *max = Vector::greatest(maxes);
  const Floats shift = Vector::broadcast(*max);
  Floats sums = Vector::zero();
  for (std::int32_t p = begin; p < end; p += Vector::kLen) {
    const Floats weights = exp2_of_nonpositive<Vector>(Vector::subtract(Vector::load(row + p), shift));
    Vector::store(row + p, weights);
    sums = Vector::add(sums, weights);
  }
  *sum = Vector::total(sums);
}

// All rows of one KV head.
template <class Vector>
void weigh_rows(const SplitInputs& in, float* exponents, const PartialRows& out) {
  for (std::int32_t r = 0; r < in.num_rows; ++r) {
    weigh<Vector>(exponents + std::ptrdiff_t{r} * kSplitLen, in.row_begins[r], in.row_ends[r], in.exponent_cap,
                  out.max + r, out.sum + r);
  }
}

}  // namespace blendserve::cpu::simd
