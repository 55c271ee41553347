#pragma once

#include <immintrin.h>

#include <cstdint>

namespace blendserve::cpu {

// Vectors of AVX-512 (its foundation, F) for the *_simd.h kernels. Only sources compiled for it may include this.
struct Avx512 {
  using Floats = __m512;
  static constexpr std::int32_t kLen = 16;

  // Rows and vectors of a product's sums that stay in 32 registers, beside a vector of one factor and one of the other.
  static constexpr std::int32_t kMaxRows = 12;
  static constexpr std::int32_t max_vectors(std::int32_t num_rows) { return num_rows <= 2 ? 8 : num_rows <= 6 ? 4 : 2; }

  static Floats zero() { return _mm512_setzero_ps(); }
  static Floats broadcast(float x) { return _mm512_set1_ps(x); }
  static Floats load(const void* x) { return _mm512_loadu_ps(x); }
  static void store(float* to, Floats x) { _mm512_storeu_ps(to, x); }

  static Floats add(Floats x, Floats y) { return _mm512_add_ps(x, y); }
  static Floats subtract(Floats x, Floats y) { return _mm512_sub_ps(x, y); }
  static Floats multiply(Floats x, Floats y) { return _mm512_mul_ps(x, y); }
  static Floats divide(Floats x, Floats y) { return _mm512_div_ps(x, y); }
  static Floats multiply_add(Floats x, Floats y, Floats sum) { return _mm512_fmadd_ps(x, y, sum); }
  static Floats min(Floats x, Floats y) { return _mm512_min_ps(x, y); }  // y where either is NaN
  static Floats max(Floats x, Floats y) { return _mm512_max_ps(x, y); }  // y where either is NaN
  static Floats round(Floats x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

  // x · 2^n for whole n, without a look at the range.
  static Floats scale(Floats x, Floats n) {
    const __m512i exponent = _mm512_slli_epi32(_mm512_cvtps_epi32(n), 23);
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(x), exponent));
  }
  static Floats zero_where_below(Floats value, Floats x, float bound) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, broadcast(bound), _CMP_NLT_UQ), value);
  }

  // kLen bfloat16 or integers in a row, and the two halves of kLen pairs of bfloat16.
  static Floats widen(const std::uint16_t* x) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
  static Floats widen(const std::int8_t* x) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x))));
  }
  static Floats widen_first(Floats pairs) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(pairs), 16));
  }
  static Floats widen_second(Floats pairs) {
    const __m512i mask = _mm512_set1_epi32(static_cast<std::int32_t>(0xFFFF0000U));
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(pairs), mask));
  }

  static float greatest(Floats x) { return _mm512_reduce_max_ps(x); }
  static float total(Floats x) { return _mm512_reduce_add_ps(x); }

  [[gnu::always_inline]] static void transpose(Floats (&x)[kLen]) {
    Floats a[kLen];
#pragma GCC unroll 16
    for (int i = 0; i < kLen; i += 2) {
      a[i] = _mm512_unpacklo_ps(x[i], x[i + 1]);
      a[i + 1] = _mm512_unpackhi_ps(x[i], x[i + 1]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLen; i += 4) {
      x[i] = _mm512_shuffle_ps(a[i], a[i + 2], 0x44);
      x[i + 1] = _mm512_shuffle_ps(a[i], a[i + 2], 0xEE);
      x[i + 2] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0x44);
      x[i + 3] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0xEE);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 4; ++i) {
      a[i] = _mm512_shuffle_f32x4(x[i], x[i + 4], 0x88);
      a[i + 4] = _mm512_shuffle_f32x4(x[i], x[i + 4], 0xDD);
      a[i + 8] = _mm512_shuffle_f32x4(x[i + 8], x[i + 12], 0x88);
      a[i + 12] = _mm512_shuffle_f32x4(x[i + 8], x[i + 12], 0xDD);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 8; ++i) {
      x[i] = _mm512_shuffle_f32x4(a[i], a[i + 8], 0x88);
      x[i + 8] = _mm512_shuffle_f32x4(a[i], a[i + 8], 0xDD);
    }
  }
};

}  // namespace blendserve::cpu
