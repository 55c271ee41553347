#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

// Only sources compiled for AVX2 and FMA may include this: what it defines must not reach an older processor.
namespace blendserve::cpu::avx2 {

template <class T>
struct Matrix {
  T* first;
  std::ptrdiff_t stride;
  T* row(std::ptrdiff_t r) const { return first + r * stride; }
};

// Rows and columns of a product that stay in registers together; columns are whole vectors of 8.
struct Block {
  std::int32_t row;
  std::int32_t num_rows;
  std::int32_t column;
  std::int32_t num_columns;
};

enum class Into { kEmpty, kFilled };  // start from 0, or from what c holds

// c (+)= a · b, all three from the block's own first row and column on. Each element of c is one chain of fused
// multiply-adds with k rising, so it does not depend on the block it is computed in.
template <int kRows, int kVectors>
void multiply_block(Matrix<const float> a, Matrix<const float> b, std::int32_t k_len, Matrix<float> c, Into into) {
  __m256 sums[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      sums[r][v] = into == Into::kEmpty ? _mm256_setzero_ps() : _mm256_loadu_ps(c.row(r) + 8 * v);
    }
  }
  for (std::int32_t k = 0; k < k_len; ++k) {
    __m256 x[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      x[v] = _mm256_loadu_ps(b.row(k) + 8 * v);
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const __m256 y = _mm256_broadcast_ss(a.row(r) + k);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        sums[r][v] = _mm256_fmadd_ps(y, x[v], sums[r][v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      _mm256_storeu_ps(c.row(r) + 8 * v, sums[r][v]);
    }
  }
}

// Blocks of 6 rows by 2 vectors fill the 16 registers: 12 sums, 2 of b, 1 of a. Few rows take more vectors instead, for
// enough independent sums to hide the latency of a multiply-add.
constexpr std::int32_t kMaxBlockRows = 6;
constexpr std::int32_t max_block_columns(std::int32_t num_rows) {
  return 8 * (num_rows == 1 ? 8 : num_rows <= 3 ? 4 : 2);
}

// Rows of the next block when `left` remain: 6, except that the last 7 to 11 are halved.
constexpr std::int32_t next_block_rows(std::int32_t left) {
  return left >= 2 * kMaxBlockRows ? kMaxBlockRows : left > kMaxBlockRows ? (left + 1) / 2 : left;
}

template <class Visit>
void for_each_block(std::int32_t num_rows, std::int32_t num_columns, const Visit& visit) {
  std::int32_t width = max_block_columns(num_rows);
  for (std::int32_t column = 0; column < num_columns; column += width) {
    while (column + width > num_columns) {
      width /= 2;
    }
    for (std::int32_t row = 0, n = 0; row < num_rows; row += n) {
      n = next_block_rows(num_rows - row);
      visit(Block{.row = row, .num_rows = n, .column = column, .num_columns = width});
    }
  }
}

using MultiplyBlock = void (*)(Matrix<const float>, Matrix<const float>, std::int32_t, Matrix<float>, Into);

inline void multiply(const Block& block, Matrix<const float> a, Matrix<const float> b, std::int32_t k_len,
                     Matrix<float> c, Into into) {
  static constexpr MultiplyBlock kBlocks[kMaxBlockRows][4] = {
      // 8, 16, 32, 64 columns
      {multiply_block<1, 1>, multiply_block<1, 2>, multiply_block<1, 4>, multiply_block<1, 8>},
      {multiply_block<2, 1>, multiply_block<2, 2>, multiply_block<2, 4>, nullptr},
      {multiply_block<3, 1>, multiply_block<3, 2>, multiply_block<3, 4>, nullptr},
      {multiply_block<4, 1>, multiply_block<4, 2>, nullptr, nullptr},
      {multiply_block<5, 1>, multiply_block<5, 2>, nullptr, nullptr},
      {multiply_block<6, 1>, multiply_block<6, 2>, nullptr, nullptr}};
  kBlocks[block.num_rows - 1][__builtin_ctz(static_cast<unsigned>(block.num_columns)) - 3](a, b, k_len, c, into);
}

}  // namespace blendserve::cpu::avx2
