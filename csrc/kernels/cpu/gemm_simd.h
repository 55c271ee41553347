#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/gemm_panel.h"

// The twins for vector instructions, for a class Vector of theirs (avx2.h, avx512.h). Only sources compiled for those
// may include this, and nothing here may come from the standard library: the linker must not find a function that
// sources for older processors share.
namespace blendserve::cpu::simd {

// What a product brings into the L2 cache while it runs: memory that lies in a row, `step` bytes with every input, ...
struct FetchRow {
  const char* from;
  std::ptrdiff_t step;  // at most two cache lines

  template <class Add>
  [[gnu::always_inline]] void during(std::int32_t block_len, const Add& add) {
    for (std::int32_t k = 0; k < block_len; ++k) {
      __builtin_prefetch(from, 0, 2);
      __builtin_prefetch(from + step / 2, 0, 2);
      from += step;
      add(k);
    }
  }
};

// ... or pieces of memory, in some of its turns of kPieceLines inputs a line with every input.
struct FetchPieces {
  PieceTurns turns;

  template <class Add>
  [[gnu::always_inline]] void during(std::int32_t block_len, const Add& add) {
    std::int32_t k = 0;
    while (k + kPieceLines <= block_len) {
      const std::byte* piece = turns.next();
      const std::int32_t end = k + kPieceLines;
      if (piece == nullptr) {
        for (; k < end; ++k) {
          add(k);
        }
        continue;
      }
      for (; k < end; ++k) {
        __builtin_prefetch(piece, 0, 2);
        piece += kCacheLine;
        add(k);
      }
    }
    for (; k < block_len; ++k) {
      add(k);
    }
  }
};

// kRows rows of sums by two vectors, in registers from the first input to the last.
template <class Vector, int kRows, class Fetch>
void multiply_rows(const float* a, const float* weights, std::int32_t block_len, PanelSums sums, bool is_first,
                   Fetch& fetch) {
  typename Vector::Floats left[kRows];
  typename Vector::Floats right[kRows];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    left[r] = is_first ? Vector::zero() : Vector::load(sums.row(r));
    right[r] = is_first ? Vector::zero() : Vector::load(sums.row(r) + Vector::kLen);
  }
  fetch.during(block_len, [&](std::int32_t k) __attribute__((always_inline)) {
    const typename Vector::Floats left_weights = Vector::load(weights + k * kPanelWidth);
    const typename Vector::Floats right_weights = Vector::load(weights + k * kPanelWidth + Vector::kLen);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const typename Vector::Floats x = Vector::broadcast(a[r * kBlockStride + k]);
      left[r] = Vector::multiply_add(x, left_weights, left[r]);
      right[r] = Vector::multiply_add(x, right_weights, right[r]);
    }
  });
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    Vector::store(sums.row(r), left[r]);
    Vector::store(sums.row(r) + Vector::kLen, right[r]);
  }
}

// The same for a number of rows that is known when it runs.
template <class Vector, int kMaxRows, class Fetch>
void multiply_few_rows(std::int32_t num_rows, const float* a, const float* weights, std::int32_t block_len,
                       PanelSums sums, bool is_first, Fetch& fetch) {
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

// Takes the rows in `num_parts` parts, as even as can be, each part two vectors at a time.
template <class Vector, class Fetch>
void multiply_parts(const PanelBlock& block, const float* weights, std::int32_t num_parts, PanelSums sums,
                    Fetch& fetch) {
  std::int32_t row = 0;
  for (std::int32_t parts_left = num_parts; parts_left > 0; --parts_left) {
    const std::int32_t num_rows = (block.num_rows - row + parts_left - 1) / parts_left;
    for (std::int32_t column = 0; column < kPanelWidth; column += 2 * Vector::kLen) {
      multiply_few_rows<Vector, Vector::kMaxRows>(
          num_rows, block.a + std::ptrdiff_t{row} * kBlockStride, weights + column, block.block_len,
          PanelSums{sums.row(row) + column, sums.stride}, block.is_first, fetch);
    }
    row += num_rows;
  }
}

// In parts that fit the registers. Meanwhile the pieces are fetched, or the block of weights that lies behind this one,
// a share with each product: fetched at once they would stall the first and leave the memory idle during the others.
template <class Vector>
void multiply_panel(const PanelBlock& block, PanelSums sums) {
  constexpr std::int32_t kColumnParts = kPanelWidth / (2 * Vector::kLen);
  static_assert(kColumnParts * 2 * Vector::kLen == kPanelWidth);
  const float* weights = float_weights<Vector>(block);
  const std::int32_t num_parts = (block.num_rows + Vector::kMaxRows - 1) / Vector::kMaxRows;
  const std::int32_t num_products = num_parts * kColumnParts;
  if (block.pieces.count > 0) {
    FetchPieces fetch{PieceTurns(block.pieces, num_products * (block.block_len / kPieceLines))};
    multiply_parts<Vector>(block, weights, num_parts, sums, fetch);
    return;
  }
  const std::int64_t input_bytes = kPanelWidth * element_bytes(block.dtype);
  FetchRow fetch{.from = static_cast<const char*>(block.weights) + block.block_len * input_bytes,
                 .step = (input_bytes + num_products - 1) / num_products};
  multiply_parts<Vector>(block, weights, num_parts, sums, fetch);
}

}  // namespace blendserve::cpu::simd
