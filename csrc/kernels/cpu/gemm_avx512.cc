// Compiled for AVX-512.
#include <immintrin.h>

#include "kernels/cpu/gemm_simd.h"

namespace blendserve::cpu {

namespace {

struct Avx512 {
  using Floats = __m512;
  static constexpr std::int32_t kLen = 16;
  static constexpr std::int32_t kMaxRows = 14;  // 28 sums, 2 vectors of weights and 1 of a in 32 registers

  static Floats zero() { return _mm512_setzero_ps(); }
  static Floats load(const float* x) { return _mm512_load_ps(x); }
  static void store(float* to, Floats x) { _mm512_store_ps(to, x); }
  static Floats broadcast(float x) { return _mm512_set1_ps(x); }
  static Floats multiply_add(Floats x, Floats y, Floats sum) { return _mm512_fmadd_ps(x, y, sum); }

  static Floats widen(const std::uint16_t* x) {
    const __m256i bits = _mm256_load_si256(reinterpret_cast<const __m256i*>(x));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
  static Floats widen(const std::int8_t* x) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(x))));
  }
};

}  // namespace

void multiply_panel_avx512(const PanelBlock& block, float* sums) { simd::multiply_panel<Avx512>(block, sums); }

}  // namespace blendserve::cpu
