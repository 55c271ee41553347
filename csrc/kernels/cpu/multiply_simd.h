#pragma once

#include <cstddef>
#include <cstdint>

// Products in registers for a class Vector of instructions; only sources compiled for those may use it.
namespace blendserve::cpu::simd {

template <class T>
struct Matrix {
  T* first;
  std::ptrdiff_t stride;
  [[gnu::always_inline]] T* row(std::ptrdiff_t r) const { return first + r * stride; }
  [[gnu::always_inline]] Matrix at(std::ptrdiff_t r, std::ptrdiff_t c) const { return {row(r) + c, stride}; }

  // What multiply() asks of its right factor: a vector of a row, and to fetch as much as it takes of one.
  template <class Vector>
  typename Vector::Floats load(std::int32_t r, std::int32_t c) const {
    return Vector::load(row(r) + c);
  }
  template <int kLen>
  [[gnu::always_inline]] void fetch_ahead() const {}
};

// Rows and columns of a product that stay in registers together; num_vectors is a power of 2.
struct Block {
  std::int32_t row;
  std::int32_t num_rows;
  std::int32_t column;
  std::int32_t num_vectors;
};

enum class Into { kEmpty, kFilled };  // start from 0, or from what c holds

// c (+)= a · b, all three from the block's own first row and column on. Each element of c is one chain of fused
// multiply-adds with k rising, so it does not depend on the block it is computed in.
template <class Vector, int kVectors, int kRows, class Right>
void multiply_block(Matrix<const float> a, const Right& b, std::int32_t k_len, Matrix<float> c, Into into) {
  using Floats = typename Vector::Floats;
  Floats sums[kRows][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      sums[r][v] = into == Into::kEmpty ? Vector::zero() : Vector::load(c.row(r) + Vector::kLen * v);
    }
  }
  for (std::int32_t k = 0; k < k_len; ++k) {
    b.template fetch_ahead<Vector::kLen * kVectors>();
    Floats x[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      x[v] = b.template load<Vector>(k, Vector::kLen * v);
    }
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const Floats y = Vector::broadcast(a.row(r)[k]);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        sums[r][v] = Vector::multiply_add(y, x[v], sums[r][v]);
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      Vector::store(c.row(r) + Vector::kLen * v, sums[r][v]);
    }
  }
}

template <class Vector, int kVectors, int kRows = 1, class Right>
void multiply_rows(std::int32_t num_rows, Matrix<const float> a, const Right& b, std::int32_t k_len, Matrix<float> c,
                   Into into) {
  if (num_rows == kRows) {
    multiply_block<Vector, kVectors, kRows>(a, b, k_len, c, into);
  } else if constexpr (kRows < Vector::kMaxRows && kVectors <= Vector::max_vectors(kRows + 1)) {
    multiply_rows<Vector, kVectors, kRows + 1>(num_rows, a, b, k_len, c, into);
  }
}

template <class Vector, int kVectors = 1, class Right>
void multiply(const Block& block, Matrix<const float> a, const Right& b, std::int32_t k_len, Matrix<float> c,
              Into into) {
  if (block.num_vectors == kVectors) {
    multiply_rows<Vector, kVectors>(block.num_rows, a, b, k_len, c, into);
  } else if constexpr (kVectors < Vector::max_vectors(1)) {
    multiply<Vector, 2 * kVectors>(block, a, b, k_len, c, into);
  }
}

// Rows of the next block when `left` remain: all that fit, except that the last two blocks are even.
template <class Vector>
std::int32_t next_block_rows(std::int32_t left) {
  return left >= 2 * Vector::kMaxRows ? Vector::kMaxRows : left > Vector::kMaxRows ? (left + 1) / 2 : left;
}

// Few rows take more vectors, for enough independent sums to hide the latency of a multiply-add.
template <class Vector, class Visit>
void for_each_block(std::int32_t num_rows, std::int32_t num_columns, const Visit& visit) {
  std::int32_t num_vectors = Vector::max_vectors(num_rows);
  for (std::int32_t column = 0; column < num_columns; column += num_vectors * Vector::kLen) {
    while (column + num_vectors * Vector::kLen > num_columns) {
      num_vectors /= 2;
    }
    for (std::int32_t row = 0, n = 0; row < num_rows; row += n) {
      n = next_block_rows<Vector>(num_rows - row);
      visit(Block{.row = row, .num_rows = n, .column = column, .num_vectors = num_vectors});
    }
  }
}

}  // namespace blendserve::cpu::simd
