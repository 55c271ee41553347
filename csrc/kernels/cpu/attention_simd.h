#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/attention_decode_simd.h"
#include "kernels/cpu/attention_split.h"
#include "kernels/cpu/attention_unpack_simd.h"
#include "kernels/cpu/attention_weights_simd.h"
#include "kernels/cpu/multiply_simd.h"

// The twins for vector instructions, for a class Vector of theirs. Only sources compiled for those may include this,
// and what is no template here and in what it includes is inlined by force and not of the standard library: the linker
// must not find a function that sources for other processors share.
namespace blendserve::cpu::simd {

// exponents[r][p] = q[r] · k[p], exponents being [num_rows, kSplitLen]. Where a row does not attend it holds anything.
template <class Vector, class Dtype>
void score(const SplitInputs& in, const float* q, const Rows& k, float* tile, float* exponents) {
  for (std::int32_t begin = in.begin() / kLanes * kLanes; begin < in.end(); begin += kTileLen) {
    const std::int32_t num_positions = padded(smaller(kTileLen, in.end() - begin));
    unpack_k<Vector, Dtype>(k, begin, num_positions, in.head_dim, tile);
    for_each_block<Vector>(in.num_rows, num_positions, [&](const Block& block) {
      const std::int32_t first = begin + block.column;
      const std::int32_t end = first + block.num_vectors * Vector::kLen;
      if (in.row_begins[block.row] < end && in.row_ends[block.row + block.num_rows - 1] > first) {
        multiply<Vector>(block, Matrix<const float>{q, in.head_dim}.at(block.row, 0),
                         Matrix<const float>{tile, kTileLen}.at(0, block.column), in.head_dim,
                         Matrix<float>{exponents, kSplitLen}.at(block.row, first), Into::kEmpty);
      }
    });
  }
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
void accumulate_values(const SplitInputs& in, const Rows& v, const float* weights, float* tile, float* acc) {
  const std::int32_t width = padded(in.head_dim);
  std::memset(acc, 0, static_cast<std::size_t>(in.num_rows * width) * sizeof(float));
  for (std::int32_t begin = in.begin(); begin < in.end(); begin += kTileLen) {
    const std::int32_t end = smaller(begin + kTileLen, in.end());
    unpack_v<Vector, Dtype>(v, begin, end - begin, in.head_dim, tile);
    const Matrix<const float> values{tile - std::ptrdiff_t{begin} * width, width};
    for_each_block<Vector>(in.num_rows, width, [&](const Block& block) {
      accumulate_block<Vector>(in, block, begin, end, Matrix<const float>{weights, kSplitLen}, values,
                               Matrix<float>{acc, width}.at(block.row, block.column));
    });
  }
}

template <class Vector, class Dtype>
void attend_unpacked(const SplitInputs& in, float* exponents, float* tile, const PartialRows& out) {
  const std::int32_t num_positions = in.end() - in.begin();
  for (std::int32_t head = 0; head < in.num_kv_heads; ++head) {
    const std::ptrdiff_t row = std::ptrdiff_t{head} * in.num_rows;
    const std::ptrdiff_t offset = head * in.head_stride;
    const RowsOfHead after = head + 1 < in.num_kv_heads
                                 ? RowsOfHead{in.k_rows + in.begin(), num_positions, offset + in.head_stride}
                                 : RowsOfHead{in.next_k_rows, in.num_next_rows, 0};
    const Rows k{{in.k_rows, in.end(), offset}, {in.v_rows + in.begin(), num_positions, offset}};
    const Rows v{{in.v_rows, in.end(), offset}, after};
    const PartialRows of_head = out.from(row);
    score<Vector, Dtype>(in, in.q + row * in.head_dim, k, tile, exponents);
    weigh_rows<Vector>(in, exponents, of_head);
    accumulate_values<Vector, Dtype>(in, v, exponents, tile, of_head.acc);
  }
}

template <class Vector, class Dtype>
void attend_split_of(const SplitInputs& in, float* scratch, const PartialRows& out) {
  if (takes_rows_as_stored<Vector>(in)) {
    attend_as_stored<Vector, Dtype>(in, scratch, out);
  } else {
    attend_unpacked<Vector, Dtype>(in, scratch, scratch + in.all_rows() * kSplitLen, out);
  }
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
