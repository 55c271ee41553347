#pragma once

#include <cstdint>

#include "kernels/cpu/attention_split.h"
#include "kernels/cpu/attention_unpack_simd.h"

// So few query rows, those of a decode, that they fill one block: what is read of K and V is used once, at once,
// instead of being unpacked to a tile. Every row gets the same bits either way.
namespace blendserve::cpu::simd {

template <class Vector, class Dtype>
bool takes_rows_as_stored(const SplitInputs& in) {
  return in.num_rows <= Vector::kMaxRows && in.head_dim % Dtype::kPieceLen == 0;
}

// score() for kRows rows: kLen positions at a time, transposed a piece of their rows after the other.
template <class Vector, class Dtype, int kRows>
void score_rows(const SplitInputs& in, float* exponents) {
  using Floats = typename Vector::Floats;
  using Element = typename Dtype::Element;
  const Rows k{in.k_rows, in.end(), in.v_rows, in.end()};
  for (std::int32_t p = in.begin() / kLanes * kLanes; p < padded(in.end()); p += Vector::kLen) {
    Floats sums[kRows];
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      sums[r] = Vector::zero();
    }
    for (std::int32_t i = 0; i < in.head_dim; i += Dtype::kPieceLen) {
      Floats x[Vector::kLen];
#pragma GCC unroll 16
      for (int j = 0; j < Vector::kLen; ++j) {
        k.fetch_ahead_of<Element>(p + j, i, i + Dtype::kPieceLen);
        x[j] = Vector::load(static_cast<const Element*>(k.rows[p + j]) + i);
      }
      Vector::transpose(x);
#pragma GCC unroll 16
      for (int j = 0; j < Vector::kLen; ++j) {
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r) {
          sums[r] = Dtype::multiply_add(in.q + r * in.head_dim + i + Dtype::kPerLane * j, x[j], sums[r]);
        }
      }
    }
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      Vector::store(exponents + r * kSplitLen + p, sums[r]);
    }
  }
}

template <class Vector, class Dtype, int kRows = 1>
void score_few_rows(const SplitInputs& in, float* exponents) {
  if (in.num_rows == kRows) {
    score_rows<Vector, Dtype, kRows>(in, exponents);
  } else if constexpr (kRows < Vector::kMaxRows) {
    score_few_rows<Vector, Dtype, kRows + 1>(in, exponents);
  }
}

// Rows of V from `row` and `column` on, for multiply().
template <class Dtype>
struct StoredRows {
  Rows rows;
  std::int32_t row;
  std::int32_t column;

  StoredRows at(std::int32_t r, std::int32_t c) const { return {rows, row + r, column + c}; }

  template <class Vector>
  typename Vector::Floats load(std::int32_t r, std::int32_t c) const {
    return Dtype::load(static_cast<const typename Dtype::Element*>(rows.rows[row + r]) + column + c);
  }
  template <int kLen>
  [[gnu::always_inline]] void fetch_ahead_of(std::int32_t r) const {
    rows.fetch_ahead_of<typename Dtype::Element>(row + r, column, column + kLen);
  }
};

}  // namespace blendserve::cpu::simd
