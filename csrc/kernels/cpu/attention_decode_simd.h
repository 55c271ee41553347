#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/attention_split.h"
#include "kernels/cpu/attention_unpack_simd.h"
#include "kernels/cpu/attention_weights_simd.h"
#include "kernels/cpu/multiply_simd.h"

// Rows that attend to the same positions, as those of one token do, so few that they fill one block of registers: what
// is read of K and V is used once, at once, instead of being unpacked to a tile. Every row gets the same bits either
// way.
namespace blendserve::cpu::simd {

template <class Vector>
bool takes_rows_as_stored(const SplitInputs& in) {
  const std::int32_t last = in.num_rows - 1;
  return in.num_rows <= Vector::kMaxRows && in.head_dim == padded(in.head_dim) &&
         in.row_begins[0] == in.row_begins[last] && in.row_ends[0] == in.row_ends[last];
}

// Memory that is fetched from the front into the L2 cache.
struct ReadAhead {
  const char* next;

  // Inlined by force: GCC takes a call that only prefetches for one without effect and drops it.
  template <int kBytes>
  [[gnu::always_inline]] void fetch() {
#pragma GCC unroll 8
    for (int i = 0; i < kBytes; i += 64) {
      __builtin_prefetch(next + i, 0, 2);
    }
    next += kBytes;
  }
};

// What is read is cut into units, kLanes positions of one head of K or V. K is read unit by unit, all heads of some
// positions before the next positions, then V. With as many positions in a block, that is the order of memory, which
// the fetching follows; with fewer it goes astray.
template <class Dtype>
struct ReadingOrder {
  // So much ahead of what is worked on: the few misses that L1 can wait for at once do not fill the memory bus, and the
  // hardware prefetcher starts anew in every block.
  static constexpr std::int32_t kAheadBytes = 16384;

  const SplitInputs& in;
  const std::int32_t begin;
  const std::int32_t end;
  const std::int32_t num_units;  // of K, as many of V
  const std::int32_t num_known;  // of both, and of K of the next split
  const std::int32_t num_ahead;

  explicit ReadingOrder(const SplitInputs& inputs)
      : in(inputs),
        begin(in.begin() / kLanes * kLanes),
        end(padded(in.end())),
        num_units((end - begin) / kLanes * in.num_kv_heads),
        num_known(2 * num_units + padded(in.num_next_rows) / kLanes * in.num_kv_heads),
        num_ahead(1 + (kAheadBytes - 1) / (kLanes * in.head_dim * Dtype::kElementSize)) {}

  // What to fetch during unit n: a later one, or itself for want of one.
  [[gnu::always_inline]] ReadAhead ahead(std::int32_t n) const {
    n += n + num_ahead < num_known ? num_ahead : 0;
    const void* const* rows = in.k_rows + begin;
    if (n >= 2 * num_units) {
      n -= 2 * num_units;
      rows = in.next_k_rows;
    } else if (n >= num_units) {
      n -= num_units;
      rows = in.v_rows + begin;
    }
    return {static_cast<const char*>(rows[n / in.num_kv_heads * kLanes]) + n % in.num_kv_heads * in.head_stride};
  }
};

// exponents[r][p] = q[r] · k[p] for kLen positions and kRows rows, K being `offset` bytes behind `rows`. A piece of K
// at a time is transposed to lanes of positions.
template <class Vector, class Dtype, int kRows>
void score_positions(const float* q, std::int32_t head_dim, const void* const* rows, std::ptrdiff_t offset,
                     ReadAhead& ahead, float* exponents) {
  constexpr int kLanesOfLine = 16 / Vector::kLen;
  typename Vector::Floats sums[kRows];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    sums[r] = Vector::zero();
  }
  for (std::int32_t i = 0; i < head_dim; i += Dtype::kPieceLen) {
    typename Vector::Floats x[Vector::kPiece];
    Vector::load_transposed(rows, offset + i * Dtype::kElementSize, x);
#pragma GCC unroll 8
    for (int j = 0; j < Vector::kPiece; ++j) {
      if (j % kLanesOfLine == 0) {
        ahead.template fetch<64>();
      }
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        sums[r] = Dtype::multiply_add(q + r * head_dim + i + Dtype::kPerLane * j, x[j], sums[r]);
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    Vector::store(exponents + r * kSplitLen, sums[r]);
  }
}

template <class Vector, class Dtype, int kRows>
void score_heads(const SplitInputs& in, const ReadingOrder<Dtype>& order, float* exponents) {
  std::int32_t n = 0;
  for (std::int32_t unit = order.begin; unit < order.end; unit += kLanes) {
    for (std::int32_t head = 0; head < in.num_kv_heads; ++head, ++n) {
      const std::ptrdiff_t row = std::ptrdiff_t{head} * kRows;
      ReadAhead ahead = order.ahead(n);
      for (std::int32_t p = unit; p < unit + kLanes; p += Vector::kLen) {
        score_positions<Vector, Dtype, kRows>(in.q + row * in.head_dim, in.head_dim, in.k_rows + p,
                                              head * in.head_stride, ahead, exponents + row * kSplitLen + p);
      }
    }
  }
}

// Rows of V from `row` on, each from `offset` bytes on, for multiply().
template <class Dtype>
struct StoredRows {
  const void* const* row;
  std::ptrdiff_t offset;
  ReadAhead* ahead;

  template <class Vector>
  typename Vector::Floats load(std::int32_t r, std::int32_t c) const {
    const char* const x = static_cast<const char*>(row[r]) + offset;
    return Dtype::load(reinterpret_cast<const typename Dtype::Element*>(x) + c);
  }
  template <int kLen>
  [[gnu::always_inline]] void fetch_ahead() const {
    ahead->template fetch<kLen * Dtype::kElementSize>();
  }
};

// acc[r] (+)= sum over len positions of weights[r][p] · v[p], from a column on; p rises.
template <class Vector, class Dtype, int kRows, int kVectors>
void accumulate_columns(std::int32_t column, std::int32_t head_dim, std::int32_t len, Matrix<const float> weights,
                        const StoredRows<Dtype>& v, Matrix<float> acc, Into into) {
  for (; column + kVectors * Vector::kLen <= head_dim; column += kVectors * Vector::kLen) {
    const StoredRows<Dtype> columns{v.row, v.offset + column * Dtype::kElementSize, v.ahead};
    multiply_block<Vector, kVectors, kRows>(weights, columns, len, acc.at(0, column), into);
  }
  if constexpr (kVectors > 1) {
    accumulate_columns<Vector, Dtype, kRows, kVectors / 2>(column, head_dim, len, weights, v, acc, into);
  }
}

template <class Vector, class Dtype, int kRows>
void accumulate_heads(const SplitInputs& in, const ReadingOrder<Dtype>& order, const float* weights,
                      Matrix<float> acc) {
  std::int32_t n = order.num_units;
  for (std::int32_t unit = order.begin; unit < order.end; unit += kLanes) {
    const std::int32_t first = larger(in.begin(), unit);
    const std::int32_t len = smaller(in.end(), unit + kLanes) - first;
    for (std::int32_t head = 0; head < in.num_kv_heads; ++head, ++n) {
      ReadAhead ahead = order.ahead(n);
      const StoredRows<Dtype> v{in.v_rows + first, head * in.head_stride, &ahead};
      const std::ptrdiff_t row = std::ptrdiff_t{head} * kRows;
      accumulate_columns<Vector, Dtype, kRows, Vector::max_vectors(kRows)>(
          0, in.head_dim, len, Matrix<const float>{weights, kSplitLen}.at(row, first), v, acc.at(row, 0),
          first == in.begin() ? Into::kEmpty : Into::kFilled);
    }
  }
}

template <class Vector, class Dtype, int kRows = 1>
void attend_as_stored(const SplitInputs& in, float* exponents, const PartialRows& out) {
  if (in.num_rows == kRows) {
    static_assert(kLanes % Dtype::kPieceLen == 0);
    const ReadingOrder<Dtype> order(in);
    score_heads<Vector, Dtype, kRows>(in, order, exponents);
    for (std::int32_t head = 0; head < in.num_kv_heads; ++head) {
      weigh_rows<Vector>(in, exponents + std::ptrdiff_t{head} * kRows * kSplitLen, out.from(head * kRows));
    }
    accumulate_heads<Vector, Dtype, kRows>(in, order, exponents, {out.acc, out.acc_stride});
  } else if constexpr (kRows < Vector::kMaxRows) {
    attend_as_stored<Vector, Dtype, kRows + 1>(in, exponents, out);
  }
}

}  // namespace blendserve::cpu::simd
