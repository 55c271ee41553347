// Compiled for AVX2 and FMA. Every function that comes out of this source has internal linkage, lives in namespace avx2
// or is the entry point: the linker must not find a function here that other sources share, hence no standard library.
#include <immintrin.h>

#include <cstring>

#include "kernels/cpu/attention_split.h"
#include "kernels/cpu/exp2_avx2.h"
#include "kernels/cpu/multiply_avx2.h"

namespace blendserve::cpu {

namespace avx2 {
namespace {

constexpr std::int32_t smaller(std::int32_t a, std::int32_t b) { return a < b ? a : b; }

struct Float32 {
  using Element = float;
  static __m256 load(const Element* x) { return _mm256_loadu_ps(x); }
};

struct BFloat16 {
  using Element = std::uint16_t;
  static __m256 load(const Element* x) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
};

// Elements [begin, begin + 8) of a row of `len`, zero past its end.
template <class Dtype>
__m256 load_padded(const void* row, std::int32_t begin, std::int32_t len) {
  using Element = typename Dtype::Element;
  const Element* x = static_cast<const Element*>(row) + begin;
  if (begin + kLanes <= len) {
    return Dtype::load(x);
  }
  Element rest[kLanes] = {};
  std::memcpy(rest, x, static_cast<std::size_t>(len - begin) * sizeof(Element));
  return Dtype::load(rest);
}

[[gnu::always_inline]] inline void transpose(__m256 (&x)[kLanes]) {
  __m256 a[kLanes];
#pragma GCC unroll 8
  for (int i = 0; i < kLanes; i += 2) {
    a[i] = _mm256_unpacklo_ps(x[i], x[i + 1]);
    a[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]);
  }
  __m256 b[kLanes];
#pragma GCC unroll 8
  for (int i = 0; i < kLanes; i += 4) {
    b[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
    b[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xEE);
    b[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
    b[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xEE);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 4; ++i) {
    x[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
    x[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
  }
}

// Rows of K or V to bring into the cache while others are unpacked, so that memory never waits for arithmetic.
struct RowsAhead {
  const void* const* rows = nullptr;
  std::int32_t num_rows = 0;

  template <class Element>
  void fetch(std::int32_t begin, std::int32_t end, std::int32_t row_len) const {
    constexpr std::int32_t kLineLen = 64 / static_cast<std::int32_t>(sizeof(Element));
    for (std::int32_t row = begin; row < smaller(end, num_rows); ++row) {
      for (std::int32_t i = 0; i < row_len; i += kLineLen) {
        __builtin_prefetch(static_cast<const Element*>(rows[row]) + i, 0, 2);
      }
    }
  }
};

// tile[i][p] = k_rows[p][i], tile being [padded(head_dim), kTileLen]; num_positions is a multiple of kLanes.
template <class Dtype>
void unpack_k(const void* const* k_rows, std::int32_t num_positions, std::int32_t head_dim, RowsAhead ahead,
              float* tile) {
  for (std::int32_t p = 0; p < num_positions; p += kLanes) {
    ahead.fetch<typename Dtype::Element>(p, p + kLanes, head_dim);
    for (std::int32_t i = 0; i < head_dim; i += kLanes) {
      __m256 x[kLanes];
#pragma GCC unroll 8
      for (int j = 0; j < kLanes; ++j) {
        x[j] = load_padded<Dtype>(k_rows[p + j], i, head_dim);
      }
      transpose(x);
#pragma GCC unroll 8
      for (int j = 0; j < kLanes; ++j) {
        _mm256_store_ps(tile + (i + j) * kTileLen + p, x[j]);
      }
    }
  }
}

// tile[p][i] = v_rows[p][i], tile being [kTileLen, padded(head_dim)].
template <class Dtype>
void unpack_v(const void* const* v_rows, std::int32_t num_positions, std::int32_t head_dim, RowsAhead ahead,
              float* tile) {
  for (std::int32_t p = 0; p < num_positions; ++p) {
    ahead.fetch<typename Dtype::Element>(p, p + 1, head_dim);
    for (std::int32_t i = 0; i < head_dim; i += kLanes) {
      _mm256_store_ps(tile, load_padded<Dtype>(v_rows[p], i, head_dim));
      tile += kLanes;
    }
  }
}

// The tile of rows that starts at `begin`, or of those that come after the last one.
RowsAhead tile_ahead(const void* const* rows, std::int32_t begin, std::int32_t end, RowsAhead after) {
  return begin < end ? RowsAhead{rows + begin, smaller(kTileLen, end - begin)} : after;
}

// exponents[r][p] = q[r] · k[p], exponents being [num_rows, kSplitLen]. Past row_lens[r] a row holds anything.
template <class Dtype>
void score(const SplitInputs& in, float* tile, float* exponents) {
  for (std::int32_t begin = 0; begin < in.num_positions; begin += kTileLen) {
    const std::int32_t num_positions = padded(smaller(kTileLen, in.num_positions - begin));
    const RowsAhead ahead =
        tile_ahead(in.k_rows, begin + kTileLen, in.num_positions, {in.v_rows, smaller(kTileLen, in.num_positions)});
    unpack_k<Dtype>(in.k_rows + begin, num_positions, in.head_dim, ahead, tile);
    for_each_block(in.num_rows, num_positions, [&](const Block& block) {
      if (in.row_lens[block.row + block.num_rows - 1] > begin + block.column) {
        multiply(block, {in.q + std::ptrdiff_t{block.row} * in.head_dim, in.head_dim}, {tile + block.column, kTileLen},
                 in.head_dim, {exponents + std::ptrdiff_t{block.row} * kSplitLen + begin + block.column, kSplitLen},
                 Into::kEmpty);
      }
    });
  }
}

float greatest_lane(__m256 x) {
  __m128 y = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  y = _mm_max_ps(y, _mm_movehl_ps(y, y));
  return _mm_cvtss_f32(_mm_max_ss(y, _mm_movehdup_ps(y)));
}

float sum_of_lanes(__m256 x) {
  __m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  y = _mm_add_ps(y, _mm_movehl_ps(y, y));
  return _mm_cvtss_f32(_mm_add_ss(y, _mm_movehdup_ps(y)));
}

// Turns the exponents of one row into weights 2^(exponent - max).
void weigh(float* row, std::int32_t len, float* max, float* sum) {
  for (std::int32_t p = len; p < padded(len); ++p) {
    row[p] = -__builtin_inff();
  }
  __m256 maxes = _mm256_load_ps(row);
  for (std::int32_t p = kLanes; p < len; p += kLanes) {
    maxes = _mm256_max_ps(maxes, _mm256_load_ps(row + p));
  }
  *max = greatest_lane(maxes);
  const __m256 shift = _mm256_set1_ps(*max);
  __m256 sums = _mm256_setzero_ps();
  for (std::int32_t p = 0; p < len; p += kLanes) {
    const __m256 weights = exp2_of_nonpositive(_mm256_sub_ps(_mm256_load_ps(row + p), shift));
    _mm256_store_ps(row + p, weights);
    sums = _mm256_add_ps(sums, weights);
  }
  *sum = sum_of_lanes(sums);
}

// acc[r] = sum over p < row_lens[r] of weights[r][p] · v[p], p rising. No weight past row_lens[r] is touched, not even
// as 0: what another row may see must not reach this one as 0 · infinity.
template <class Dtype>
void accumulate_values(const SplitInputs& in, const float* weights, float* tile, float* acc) {
  const std::int32_t width = padded(in.head_dim);
  for (std::int32_t begin = 0; begin < in.num_positions; begin += kTileLen) {
    const std::int32_t num_positions = smaller(kTileLen, in.num_positions - begin);
    const Into into = begin == 0 ? Into::kEmpty : Into::kFilled;
    const RowsAhead ahead = tile_ahead(in.v_rows, begin + kTileLen, in.num_positions,
                                       {in.next_k_rows, smaller(kTileLen, in.num_next_rows)});
    unpack_v<Dtype>(in.v_rows + begin, num_positions, in.head_dim, ahead, tile);
    for_each_block(in.num_rows, width, [&](const Block& block) {
      const Matrix<const float> a{weights + std::ptrdiff_t{block.row} * kSplitLen + begin, kSplitLen};
      const Matrix<const float> b{tile + block.column, width};
      const Matrix<float> c{acc + std::ptrdiff_t{block.row} * width + block.column, width};
      const std::int32_t common = smaller(num_positions, in.row_lens[block.row] - begin);
      if (common > 0) {
        multiply(block, a, b, common, c, into);
      }
      for (std::int32_t r = 0; r < block.num_rows; ++r) {
        const std::int32_t first = common > 0 ? common : 0;
        const std::int32_t rest = smaller(num_positions, in.row_lens[block.row + r] - begin) - first;
        if (rest > 0) {
          multiply({.row = block.row + r, .num_rows = 1, .column = block.column, .num_columns = block.num_columns},
                   {a.row(r) + first, kSplitLen}, {b.row(first), width}, rest, {c.row(r), width}, Into::kFilled);
        }
      }
    });
  }
}

template <class Dtype>
void attend_split(const SplitInputs& in, float* scratch, const PartialRows& out) {
  float* exponents = scratch;
  float* tile = scratch + std::ptrdiff_t{in.num_rows} * kSplitLen;
  score<Dtype>(in, tile, exponents);
  for (std::int32_t r = 0; r < in.num_rows; ++r) {
    weigh(exponents + std::ptrdiff_t{r} * kSplitLen, in.row_lens[r], out.max + r, out.sum + r);
  }
  accumulate_values<Dtype>(in, exponents, tile, out.acc);
}

}  // namespace
}  // namespace avx2

void attend_split_avx2(const SplitInputs& in, float* scratch, const PartialRows& out) {
  if (in.kv_dtype == KvDtype::kFloat32) {
    avx2::attend_split<avx2::Float32>(in, scratch, out);
  } else {
    avx2::attend_split<avx2::BFloat16>(in, scratch, out);
  }
}

}  // namespace blendserve::cpu
