#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/gemm_panel.h"

// The twins for vector instructions, for a class Vector of theirs (avx2.h, avx512.h). Only sources compiled for those
// may include this, and nothing here may come from the standard library: the linker must not find a function that
// sources for older processors share.
namespace blendserve::cpu::simd {

// Memory to bring into the L2 cache while a product runs: `step` bytes with every input.
struct Fetch {
  const char* from;
  std::ptrdiff_t step;  // at most two cache lines
};

// kRows rows of sums by two vectors, in registers from the first input to the last.
template <class Vector, int kRows>
void multiply_rows(const float* a, const float* weights, std::int32_t block_len, PanelSums sums, bool is_first,
                   Fetch fetch) {
  typename Vector::Floats left[kRows];
  typename Vector::Floats right[kRows];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    left[r] = is_first ? Vector::zero() : Vector::load(sums.row(r));
    right[r] = is_first ? Vector::zero() : Vector::load(sums.row(r) + Vector::kLen);
  }
  for (std::int32_t k = 0; k < block_len; ++k) {
    __builtin_prefetch(fetch.from, 0, 2);
    __builtin_prefetch(fetch.from + fetch.step / 2, 0, 2);
    fetch.from += fetch.step;
    const typename Vector::Floats left_weights = Vector::load(weights + k * kPanelWidth);
    const typename Vector::Floats right_weights = Vector::load(weights + k * kPanelWidth + Vector::kLen);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const typename Vector::Floats x = Vector::broadcast(a[r * kBlockStride + k]);
      left[r] = Vector::multiply_add(x, left_weights, left[r]);
      right[r] = Vector::multiply_add(x, right_weights, right[r]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    Vector::store(sums.row(r), left[r]);
    Vector::store(sums.row(r) + Vector::kLen, right[r]);
  }
}

// The same for a number of rows that is known when it runs.
template <class Vector, int kMaxRows>
void multiply_few_rows(std::int32_t num_rows, const float* a, const float* weights, std::int32_t block_len,
                       PanelSums sums, bool is_first, Fetch fetch) {
  if (num_rows == kMaxRows) {
    multiply_rows<Vector, kMaxRows>(a, weights, block_len, sums, is_first, fetch);
  } else if constexpr (kMaxRows > 1) {
    multiply_few_rows<Vector, kMaxRows - 1>(num_rows, a, weights, block_len, sums, is_first, fetch);
  }
}

template <class Vector, class Stored>
const float* widen(const PanelBlock& block) {
  const auto* from = static_cast<const Stored*>(block.weights);
  for (std::int32_t i = 0; i < block.block_len * kPanelWidth; i += Vector::kLen) {
    Vector::store(block.scratch + i, Vector::widen(from + i));
  }
  return block.scratch;
}

template <class Vector>
const float* float_weights(const PanelBlock& block) {
  switch (block.dtype) {
    case WeightDtype::kBFloat16:
      return widen<Vector, std::uint16_t>(block);
    case WeightDtype::kInt8:
      return widen<Vector, std::int8_t>(block);
    default:
      return static_cast<const float*>(block.weights);
  }
}

// Takes the rows in parts that fit the registers, as even as can be, each part two vectors at a time. Meanwhile the
// block of weights that lies behind this one is fetched, a share with each product: fetched at once it would stall the
// first and leave the memory idle during the others.
template <class Vector>
void multiply_panel(const PanelBlock& block, PanelSums sums) {
  constexpr std::int32_t kColumns = 2 * Vector::kLen;
  constexpr std::int32_t kColumnParts = kPanelWidth / kColumns;
  static_assert(kColumnParts * kColumns == kPanelWidth);
  const float* weights = float_weights<Vector>(block);
  const std::int32_t num_parts = (block.num_rows + Vector::kMaxRows - 1) / Vector::kMaxRows;
  const std::int32_t num_products = num_parts * kColumnParts;
  const std::int64_t input_bytes = kPanelWidth * element_bytes(block.dtype);
  Fetch fetch{.from = static_cast<const char*>(block.weights) + block.block_len * input_bytes,
              .step = (input_bytes + num_products - 1) / num_products};
  std::int32_t row = 0;
  for (std::int32_t parts_left = num_parts; parts_left > 0; --parts_left) {
    const std::int32_t num_rows = (block.num_rows - row + parts_left - 1) / parts_left;
    for (std::int32_t column = 0; column < kPanelWidth; column += kColumns) {
      multiply_few_rows<Vector, Vector::kMaxRows>(
          num_rows, block.a + std::ptrdiff_t{row} * kBlockStride, weights + column, block.block_len,
          PanelSums{sums.row(row) + column, sums.stride}, block.is_first, fetch);
      fetch.from += block.block_len * fetch.step;
    }
    row += num_rows;
  }
}

}  // namespace blendserve::cpu::simd
