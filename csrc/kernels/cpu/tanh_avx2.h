#pragma once

#include <immintrin.h>

// Only sources compiled for AVX2 and FMA may include this: what it defines must not reach an older processor.
namespace blendserve::cpu::avx2 {

// NaN for NaN. The rational function of degrees 13 and 6 is that of Eigen's tanh for float (B. Steiner, P. Sepp); its
// relative error is below 5e-7, and beyond the ends it is 1 to rounding.
inline __m256 tanh(__m256 x) {
  constexpr float kEnd = 7.9053111F;
  x = _mm256_min_ps(_mm256_set1_ps(kEnd), _mm256_max_ps(_mm256_set1_ps(-kEnd), x));  // the second operand where NaN
  const __m256 y = _mm256_mul_ps(x, x);
  __m256 p = _mm256_set1_ps(-2.76076847742355e-16F);
  p = _mm256_fmadd_ps(p, y, _mm256_set1_ps(2.00018790482477e-13F));
  p = _mm256_fmadd_ps(p, y, _mm256_set1_ps(-8.60467152213735e-11F));
  p = _mm256_fmadd_ps(p, y, _mm256_set1_ps(5.12229709037114e-08F));
  p = _mm256_fmadd_ps(p, y, _mm256_set1_ps(1.48572235717979e-05F));
  p = _mm256_fmadd_ps(p, y, _mm256_set1_ps(6.37261928875436e-04F));
  p = _mm256_fmadd_ps(p, y, _mm256_set1_ps(4.89352455891786e-03F));
  __m256 q = _mm256_set1_ps(1.19825839466702e-06F);
  q = _mm256_fmadd_ps(q, y, _mm256_set1_ps(1.18534705686654e-04F));
  q = _mm256_fmadd_ps(q, y, _mm256_set1_ps(2.26843463243900e-03F));
  q = _mm256_fmadd_ps(q, y, _mm256_set1_ps(4.89352518554385e-03F));
  return _mm256_div_ps(_mm256_mul_ps(x, p), q);
}

}  // namespace blendserve::cpu::avx2
