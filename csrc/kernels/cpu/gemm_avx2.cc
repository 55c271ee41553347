// Compiled for AVX2 and FMA; what attention_avx2.cc says of linkage holds here too.
#include <immintrin.h>

#include "kernels/cpu/gemm_panel.h"
#include "kernels/cpu/multiply_avx2.h"

namespace blendserve::cpu {

namespace avx2 {
namespace {

__m256 widened(const std::uint16_t* x) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

__m256 widened(const std::int8_t* x) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(x))));
}

template <class Stored>
const float* widen(const PanelBlock& block) {
  const auto* from = static_cast<const Stored*>(block.weights);
  for (std::int32_t i = 0; i < block.block_len * kPanelWidth; i += 8) {
    _mm256_store_ps(block.scratch + i, widened(from + i));
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

}  // namespace
}  // namespace avx2

void multiply_panel_avx2(const PanelBlock& block, float* sums) {
  using namespace avx2;
  const float* weights = float_weights(block);
  for_each_block(block.num_rows, kPanelWidth, [&](const Block& part) {
    multiply(part, {block.a + std::ptrdiff_t{part.row} * kBlockStride, kBlockStride},
             {weights + part.column, kPanelWidth}, block.block_len,
             {sums + part.row * kPanelWidth + part.column, kPanelWidth}, block.is_first ? Into::kEmpty : Into::kFilled);
  });
}

}  // namespace blendserve::cpu
