// Compiled for AVX-512; what attention_avx2.cc says of linkage holds here too.
#include <immintrin.h>

#include <cstddef>

#include "kernels/cpu/gemm_panel.h"

namespace blendserve::cpu {

namespace avx512 {
namespace {

constexpr std::int32_t kVectorLen = 16;
static_assert(kPanelWidth == 2 * kVectorLen);

__m512 widened(const std::uint16_t* x) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

__m512 widened(const std::int8_t* x) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x))));
}

template <class Stored>
const float* widen(const PanelBlock& block) {
  const auto* from = static_cast<const Stored*>(block.weights);
  for (std::int32_t i = 0; i < block.block_len * kPanelWidth; i += kVectorLen) {
    _mm512_store_ps(block.scratch + i, widened(from + i));
  }
  return block.scratch;
}

const float* float_weights(const PanelBlock& block) {
  switch (block.dtype) {
    case WeightDtype::kBFloat16:
      return widen<std::uint16_t>(block);
    case WeightDtype::kInt8:
      return widen<std::int8_t>(block);
    default:
      return static_cast<const float*>(block.weights);
  }
}

// 14 rows by 2 vectors fill the 32 registers: 28 sums, 2 of weights, 2 of a.
constexpr std::int32_t kMaxRows = 14;

template <int kRows>
void multiply_rows(const float* a, const float* weights, std::int32_t block_len, float* sums, bool is_first) {
  __m512 left[kRows];
  __m512 right[kRows];
#pragma GCC unroll 14
  for (int r = 0; r < kRows; ++r) {
    left[r] = is_first ? _mm512_setzero_ps() : _mm512_load_ps(sums + r * kPanelWidth);
    right[r] = is_first ? _mm512_setzero_ps() : _mm512_load_ps(sums + r * kPanelWidth + kVectorLen);
  }
  for (std::int32_t k = 0; k < block_len; ++k) {
    const __m512 x = _mm512_load_ps(weights + k * kPanelWidth);
    const __m512 y = _mm512_load_ps(weights + k * kPanelWidth + kVectorLen);
#pragma GCC unroll 14
    for (int r = 0; r < kRows; ++r) {
      const __m512 factor = _mm512_set1_ps(a[r * kBlockStride + k]);
      left[r] = _mm512_fmadd_ps(factor, x, left[r]);
      right[r] = _mm512_fmadd_ps(factor, y, right[r]);
    }
  }
#pragma GCC unroll 14
  for (int r = 0; r < kRows; ++r) {
    _mm512_store_ps(sums + r * kPanelWidth, left[r]);
    _mm512_store_ps(sums + r * kPanelWidth + kVectorLen, right[r]);
  }
}

using MultiplyRows = void (*)(const float*, const float*, std::int32_t, float*, bool);
constexpr MultiplyRows kMultiplyRows[kMaxRows] = {
    multiply_rows<1>,  multiply_rows<2>,  multiply_rows<3>,  multiply_rows<4>, multiply_rows<5>,
    multiply_rows<6>,  multiply_rows<7>,  multiply_rows<8>,  multiply_rows<9>, multiply_rows<10>,
    multiply_rows<11>, multiply_rows<12>, multiply_rows<13>, multiply_rows<14>};

}  // namespace
}  // namespace avx512

void multiply_panel_avx512(const PanelBlock& block, float* sums) {
  using namespace avx512;
  const float* weights = float_weights(block);
  std::int32_t num_parts = (block.num_rows + kMaxRows - 1) / kMaxRows;
  for (std::int32_t row = 0, n = 0; row < block.num_rows; row += n, --num_parts) {
    n = (block.num_rows - row + num_parts - 1) / num_parts;  // as even as can be
    kMultiplyRows[n - 1](block.a + std::ptrdiff_t{row} * kBlockStride, weights, block.block_len,
                         sums + row * kPanelWidth, block.is_first);
  }
}

}  // namespace blendserve::cpu
