#pragma once

#include <immintrin.h>

// Only sources compiled for AVX2 and FMA may include this: what it defines must not reach an older processor.
namespace blendserve::cpu::avx2 {

// 2^x for x <= 0: exactly 1 at 0, 0 below -126, NaN for NaN. The polynomial for 2^f, |f| <= 1/2, is that of exp2f in
// the Cephes library (S. L. Moshier); its relative error is below 2e-7.
inline __m256 exp2_of_nonpositive(__m256 x) {
  const __m256 n = _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m256 f = _mm256_sub_ps(x, n);
  __m256 p = _mm256_set1_ps(1.535336188319500e-4F);
  p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(1.339887440266574e-3F));
  p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(9.618437357674640e-3F));
  p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(5.550332471162809e-2F));
  p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(2.402264791363012e-1F));
  p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(6.931472028550421e-1F));
  p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(1.0F));
  const __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
  const __m256 power = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), exponent));
  const __m256 underflow = _mm256_cmp_ps(x, _mm256_set1_ps(-126.0F), _CMP_LT_OQ);
  return _mm256_andnot_ps(underflow, power);
}

}  // namespace blendserve::cpu::avx2
