// Compiled for AVX2 and FMA.
#include <immintrin.h>

#include "kernels/cpu/gemm_simd.h"

namespace blendserve::cpu {

namespace {

struct Avx2 {
  using Floats = __m256;
  static constexpr std::int32_t kLen = 8;
  static constexpr std::int32_t kMaxRows = 6;  // 12 sums, 2 vectors of weights and 1 of a in 16 registers

  static Floats zero() { return _mm256_setzero_ps(); }
  static Floats load(const float* x) { return _mm256_load_ps(x); }
  static void store(float* to, Floats x) { _mm256_store_ps(to, x); }
  static Floats broadcast(float x) { return _mm256_set1_ps(x); }
  static Floats multiply_add(Floats x, Floats y, Floats sum) { return _mm256_fmadd_ps(x, y, sum); }

  static Floats widen(const std::uint16_t* x) {
    const __m128i bits = _mm_load_si128(reinterpret_cast<const __m128i*>(x));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
  static Floats widen(const std::int8_t* x) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(x))));
  }
};

}  // namespace

void multiply_panel_avx2(const PanelBlock& block, float* sums) { simd::multiply_panel<Avx2>(block, sums); }

}  // namespace blendserve::cpu
