#pragma once

#include <immintrin.h>

#include <cstddef>
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
  static Floats load(const float* x) { return _mm512_loadu_ps(x); }
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

  // x[j] = the lanes j of kPiece 32-bit lanes of each of kLen rows, from `offset` bytes on. Rows that end up in one
  // vector are put together as they are loaded, which costs no shuffle.
  static constexpr std::int32_t kPiece = 8;
  [[gnu::always_inline]] static void load_transposed(const void* const* rows, std::ptrdiff_t offset,
                                                     Floats (&x)[kPiece]) {
    Floats a[kPiece];
#pragma GCC unroll 2
    for (int half = 0; half < kPiece; half += 4) {
      Floats* const b = x + half;
      const void* const* const first = rows + 2 * half;
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
        const __m512d low = _mm512_castpd256_pd512(load_eight(first[k], offset));
        b[k] = _mm512_castpd_ps(_mm512_insertf64x4(low, load_eight(first[k + 4], offset), 1));
      }
      const Floats low01 = _mm512_unpacklo_ps(b[0], b[1]);
      const Floats high01 = _mm512_unpackhi_ps(b[0], b[1]);
      const Floats low23 = _mm512_unpacklo_ps(b[2], b[3]);
      const Floats high23 = _mm512_unpackhi_ps(b[2], b[3]);
      a[half] = _mm512_shuffle_ps(low01, low23, 0x44);
      a[half + 1] = _mm512_shuffle_ps(low01, low23, 0xEE);
      a[half + 2] = _mm512_shuffle_ps(high01, high23, 0x44);
      a[half + 3] = _mm512_shuffle_ps(high01, high23, 0xEE);
    }
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      x[k] = _mm512_shuffle_f32x4(a[k], a[k + 4], 0x88);
      x[k + 4] = _mm512_shuffle_f32x4(a[k], a[k + 4], 0xDD);
    }
  }

 private:
  static __m256d load_eight(const void* row, std::ptrdiff_t offset) {
    return _mm256_loadu_pd(reinterpret_cast<const double*>(static_cast<const char*>(row) + offset));
  }
};

}  // namespace blendserve::cpu
