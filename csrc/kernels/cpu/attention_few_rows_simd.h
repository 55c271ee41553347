#pragma once

#include <cstdint>

#include "kernels/cpu/attention_split.h"
#include "kernels/cpu/attention_unpack_simd.h"

// So few query rows, those of a decode, that they fill one block: what is read of K and V is used once, at once,
// instead of being unpacked to a tile. Every row gets the same bits either way.
namespace blendserve::cpu::simd {

template <class Vector, class Dtype>
bool takes_rows_as_stored(const SplitInputs& in) {
  return in.num_rows <= Vector::kMaxRows && in.head_dim % Dtype::kPieceLen == 0 && in.head_dim == padded(in.head_dim);
}

// score() of kRows rows for kGroups times kLen positions from p on. A piece of the rows of K at a time is transposed to
// lanes of positions; the sums of few rows are long chains of latencies, so two groups of positions take turns.
template <class Vector, class Dtype, int kRows, int kGroups>
void score_positions(const SplitInputs& in, const Rows& k, std::int32_t p, float* exponents) {
  using Floats = typename Vector::Floats;
  using Element = typename Dtype::Element;
  Lines<Element> ahead = k.ahead_of<Element>(p, kGroups * Vector::kLen, in.head_dim);
  Floats sums[kGroups][kRows];
#pragma GCC unroll 2
  for (int g = 0; g < kGroups; ++g) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      sums[g][r] = Vector::zero();
    }
  }
  for (std::int32_t i = 0; i < in.head_dim; i += Dtype::kPieceLen) {
#pragma GCC unroll 2
    for (int g = 0; g < kGroups; ++g) {
      Floats x[Vector::kLen];
#pragma GCC unroll 16
      for (int j = 0; j < Vector::kLen; ++j) {
        ahead.fetch_elements(Dtype::kPieceLen);
        x[j] = Vector::load(static_cast<const Element*>(k.rows[p + g * Vector::kLen + j]) + i);
      }
      Vector::transpose(x);
#pragma GCC unroll 16
      for (int j = 0; j < Vector::kLen; ++j) {
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r) {
          sums[g][r] = Dtype::multiply_add(in.q + r * in.head_dim + i + Dtype::kPerLane * j, x[j], sums[g][r]);
        }
      }
    }
  }
#pragma GCC unroll 2
  for (int g = 0; g < kGroups; ++g) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      Vector::store(exponents + r * kSplitLen + p + g * Vector::kLen, sums[g][r]);
    }
  }
}

template <class Vector, class Dtype, int kRows>
void score_rows(const SplitInputs& in, float* exponents) {
  constexpr int kGroups = kRows <= 4 ? 2 : 1;
  const Rows k{in.k_rows, in.end(), in.v_rows, in.end()};
  const std::int32_t end = padded(in.end());
  std::int32_t p = in.begin() / kLanes * kLanes;
  for (; p + kGroups * Vector::kLen <= end; p += kGroups * Vector::kLen) {
    score_positions<Vector, Dtype, kRows, kGroups>(in, k, p, exponents);
  }
  if (p < end) {
    score_positions<Vector, Dtype, kRows, 1>(in, k, p, exponents);
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
  const void* const* row;
  std::int32_t column;
  Lines<typename Dtype::Element>* ahead;

  StoredRows at(std::int32_t r, std::int32_t c) const { return {row + r, column + c, ahead}; }

  template <class Vector>
  typename Vector::Floats load(std::int32_t r, std::int32_t c) const {
    return Dtype::load(static_cast<const typename Dtype::Element*>(row[r]) + column + c);
  }
  template <int kLen>
  [[gnu::always_inline]] void fetch_ahead() const {
    ahead->fetch_elements(kLen);
  }
};

}  // namespace blendserve::cpu::simd
