#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/attention_few_rows_simd.h"
#include "kernels/cpu/attention_split.h"
#include "kernels/cpu/attention_unpack_simd.h"
#include "kernels/cpu/exp2_simd.h"
#include "kernels/cpu/multiply_simd.h"
#include "kernels/cpu/tanh_simd.h"

// The twins for vector instructions, for a class Vector of theirs. Only sources compiled for those may include this,
// and what is no template here and in what it includes is inlined by force and not of the standard library: the linker
// must not find a function that sources for other processors share.
namespace blendserve::cpu::simd {

[[gnu::always_inline]] constexpr std::int32_t smaller(std::int32_t a, std::int32_t b) { return a < b ? a : b; }
[[gnu::always_inline]] constexpr std::int32_t larger(std::int32_t a, std::int32_t b) { return a > b ? a : b; }

// exponents[r][p] = q[r] · k[p], exponents being [num_rows, kSplitLen]. Where a row does not attend it holds anything.
template <class Vector, class Dtype>
void score(const SplitInputs& in, float* tile, float* exponents) {
  const Rows k{in.k_rows, in.end(), in.v_rows, in.end()};
  for (std::int32_t begin = in.begin() / kLanes * kLanes; begin < in.end(); begin += kTileLen) {
    const std::int32_t num_positions = padded(smaller(kTileLen, in.end() - begin));
    unpack_k<Vector, Dtype>(k, begin, num_positions, in.head_dim, tile);
    for_each_block<Vector>(in.num_rows, num_positions, [&](const Block& block) {
      const std::int32_t first = begin + block.column;
      const std::int32_t end = first + block.num_vectors * Vector::kLen;
      if (in.row_begins[block.row] < end && in.row_ends[block.row + block.num_rows - 1] > first) {
        multiply<Vector>(block, Matrix<const float>{in.q, in.head_dim}.at(block.row, 0),
                         Matrix<const float>{tile, kTileLen}.at(0, block.column), in.head_dim,
                         Matrix<float>{exponents, kSplitLen}.at(block.row, first), Into::kEmpty);
      }
    });
  }
}

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

// c[r] += sum over p of weights[r][p] · v[p] for the rows and columns of a block, p rising over [begin, end) where the
// row attends. No weight elsewhere is touched, not even as 0: what another row may see must not reach this one as 0 ·
// infinity. `weights` and `v` start at position 0, c at the block.
template <class Vector, class Values>
void accumulate_block(const SplitInputs& in, const Block& block, std::int32_t begin, std::int32_t end,
                      Matrix<const float> weights, const Values& v, Matrix<float> c) {
  const auto row_by_row = [&](std::int32_t from, std::int32_t to) {
    for (std::int32_t r = 0; r < block.num_rows; ++r) {
      const std::int32_t first = larger(from, in.row_begins[block.row + r]);
      const std::int32_t len = smaller(to, in.row_ends[block.row + r]) - first;
      if (len > 0) {
        multiply<Vector>(
            {.row = block.row + r, .num_rows = 1, .column = block.column, .num_vectors = block.num_vectors},
            weights.at(block.row + r, first), v.at(first, block.column), len, c.at(r, 0), Into::kFilled);
      }
    }
  };
  const std::int32_t first = smaller(end, larger(begin, in.row_begins[block.row + block.num_rows - 1]));
  const std::int32_t last = larger(first, smaller(end, in.row_ends[block.row]));  // all rows attend to [first, last)
  row_by_row(begin, first);
  if (last > first) {
    multiply<Vector>(block, weights.at(block.row, first), v.at(first, block.column), last - first, c, Into::kFilled);
  }
  row_by_row(last, end);
}

template <class Vector, class Dtype>
void accumulate_values(const SplitInputs& in, const float* weights, float* tile, float* acc) {
  const Rows v{in.v_rows, in.end(), in.next_k_rows, in.num_next_rows};
  const std::int32_t width = padded(in.head_dim);
  const bool as_stored = takes_rows_as_stored<Vector, Dtype>(in);
  std::memset(acc, 0, static_cast<std::size_t>(in.num_rows * width) * sizeof(float));
  for (std::int32_t begin = in.begin(); begin < in.end(); begin += kTileLen) {
    const std::int32_t end = smaller(begin + kTileLen, in.end());
    if (!as_stored) {
      unpack_v<Vector, Dtype>(v, begin, end - begin, in.head_dim, tile);
    }
    auto ahead = v.template ahead_of<typename Dtype::Element>(begin, end - begin, in.head_dim);
    const StoredRows<Dtype> values_as_stored{v.rows, 0, &ahead};
    for_each_block<Vector>(in.num_rows, width, [&](const Block& block) {
      const Matrix<const float> row_weights{weights, kSplitLen};
      const Matrix<float> c = Matrix<float>{acc, width}.at(block.row, block.column);
      if (as_stored) {
        accumulate_block<Vector>(in, block, begin, end, row_weights, values_as_stored, c);
      } else {
        const Matrix<const float> values{tile - std::ptrdiff_t{begin} * width, width};
        accumulate_block<Vector>(in, block, begin, end, row_weights, values, c);
      }
    });
  }
}

template <class Vector, class Dtype>
void attend_split_of(const SplitInputs& in, float* scratch, const PartialRows& out) {
  float* exponents = scratch;
  float* tile = scratch + std::ptrdiff_t{in.num_rows} * kSplitLen;
  if (takes_rows_as_stored<Vector, Dtype>(in)) {
    score_few_rows<Vector, Dtype>(in, exponents);
  } else {
    score<Vector, Dtype>(in, tile, exponents);
  }
  for (std::int32_t r = 0; r < in.num_rows; ++r) {
    weigh<Vector>(exponents + std::ptrdiff_t{r} * kSplitLen, in.row_begins[r], in.row_ends[r], in.exponent_cap,
                  out.max + r, out.sum + r);
  }
  accumulate_values<Vector, Dtype>(in, exponents, tile, out.acc);
}

template <class Vector>
void attend_split(const SplitInputs& in, float* scratch, const PartialRows& out) {
  if (in.kv_dtype == KvDtype::kFloat32) {
    attend_split_of<Vector, Float32<Vector>>(in, scratch, out);
  } else {
    attend_split_of<Vector, BFloat16<Vector>>(in, scratch, out);
  }
}

}  // namespace blendserve::cpu::simd
