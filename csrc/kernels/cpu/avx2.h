#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace blendserve::cpu {

// Vectors of AVX2 with FMA for the *_simd.h kernels. Only sources compiled for those may include this.
struct Avx2 {
  using Floats = __m256;
  static constexpr std::int32_t kLen = 8;

  // Rows and vectors of a product's sums that stay in 16 registers, beside a vector of one factor and one of the other.
  static constexpr std::int32_t kMaxRows = 6;
  static constexpr std::int32_t max_vectors(std::int32_t num_rows) { return num_rows == 1 ? 8 : num_rows <= 3 ? 4 : 2; }

  static Floats zero() { return _mm256_setzero_ps(); }
  static Floats broadcast(float x) { return _mm256_set1_ps(x); }
  static Floats load(const float* x) { return _mm256_loadu_ps(x); }
  static void store(float* to, Floats x) { _mm256_storeu_ps(to, x); }

  static Floats add(Floats x, Floats y) { return _mm256_add_ps(x, y); }
  static Floats subtract(Floats x, Floats y) { return _mm256_sub_ps(x, y); }
  static Floats multiply(Floats x, Floats y) { return _mm256_mul_ps(x, y); }
  static Floats divide(Floats x, Floats y) { return _mm256_div_ps(x, y); }
  static Floats multiply_add(Floats x, Floats y, Floats sum) { return _mm256_fmadd_ps(x, y, sum); }
  static Floats min(Floats x, Floats y) { return _mm256_min_ps(x, y); }  // y where either is NaN
  static Floats max(Floats x, Floats y) { return _mm256_max_ps(x, y); }  // y where either is NaN
  static Floats round(Floats x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

  // x · 2^n for whole n, without a look at the range.
  static Floats scale(Floats x, Floats n) {
    const __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x), exponent));
  }
  static Floats zero_where_below(Floats value, Floats x, float bound) {
    return _mm256_andnot_ps(_mm256_cmp_ps(x, broadcast(bound), _CMP_LT_OQ), value);
  }

  // kLen bfloat16 or integers in a row, and the two halves of kLen pairs of bfloat16.
  static Floats widen(const std::uint16_t* x) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
  static Floats widen(const std::int8_t* x) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(x))));
  }
  static Floats widen_first(Floats pairs) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(pairs), 16));
  }
  static Floats widen_second(Floats pairs) {
    return _mm256_and_ps(pairs, _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<std::int32_t>(0xFFFF0000U))));
  }

  static float greatest(Floats x) {
    __m128 y = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_max_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_max_ss(y, _mm_movehdup_ps(y)));
  }
  static float total(Floats x) {
    __m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_add_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_add_ss(y, _mm_movehdup_ps(y)));
  }

  // x[j] = the lanes j of kPiece 32-bit lanes of each of kLen rows, from `offset` bytes on. Rows that end up in one
  // vector are put together as they are loaded, which costs no shuffle.
  static constexpr std::int32_t kPiece = 4;
  [[gnu::always_inline]] static void load_transposed(const void* const* rows, std::ptrdiff_t offset,
                                                     Floats (&x)[kPiece]) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      x[k] =
          _mm256_insertf128_ps(_mm256_castps128_ps256(load_four(rows[k], offset)), load_four(rows[k + 4], offset), 1);
    }
    const Floats a = _mm256_unpacklo_ps(x[0], x[1]);
    const Floats b = _mm256_unpackhi_ps(x[0], x[1]);
    const Floats c = _mm256_unpacklo_ps(x[2], x[3]);
    const Floats d = _mm256_unpackhi_ps(x[2], x[3]);
    x[0] = _mm256_shuffle_ps(a, c, 0x44);
    x[1] = _mm256_shuffle_ps(a, c, 0xEE);
    x[2] = _mm256_shuffle_ps(b, d, 0x44);
    x[3] = _mm256_shuffle_ps(b, d, 0xEE);
  }

 private:
  static __m128 load_four(const void* row, std::ptrdiff_t offset) {
    return _mm_loadu_ps(reinterpret_cast<const float*>(static_cast<const char*>(row) + offset));
  }
};

}  // namespace blendserve::cpu
