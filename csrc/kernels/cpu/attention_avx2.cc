// Compiled for AVX2 and FMA. Every function that comes out of this source has internal linkage, lives in namespace avx2
// or is the entry point: the linker must not find a function here that other sources share, hence no standard library.
#include <immintrin.h>

#include <cstring>

#include "kernels/cpu/attention_split.h"
#include "kernels/cpu/exp2_avx2.h"
#include "kernels/cpu/multiply_avx2.h"
#include "kernels/cpu/tanh_avx2.h"

namespace blendserve::cpu {

namespace avx2 {
namespace {

constexpr std::int32_t smaller(std::int32_t a, std::int32_t b) { return a < b ? a : b; }
constexpr std::int32_t larger(std::int32_t a, std::int32_t b) { return a > b ? a : b; }

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

// The rows that will be unpacked, and those after them. They are fetched into the L2 cache kAheadLen rows before their
// turn, all lines of a row in order: the few misses that L1 can wait for at once do not fill the memory bus, and the
// hardware prefetcher starts anew in every block.
struct Rows {
  const void* const* rows;
  std::int32_t num_rows;
  const void* const* next_rows;
  std::int32_t num_next_rows;

  // Inlined by force: GCC takes a call that only prefetches for one without effect and drops it.
  template <class Element>
  [[gnu::always_inline]] void fetch_ahead_of(std::int32_t row, std::int32_t row_len) const {
    constexpr std::int32_t kAheadLen = 32;
    constexpr std::int32_t kLineLen = 64 / static_cast<std::int32_t>(sizeof(Element));
    const std::int32_t ahead = row + kAheadLen;
    if (ahead < num_rows + num_next_rows) {
      const auto* x = static_cast<const Element*>(ahead < num_rows ? rows[ahead] : next_rows[ahead - num_rows]);
      for (std::int32_t i = 0; i < row_len; i += kLineLen) {
        __builtin_prefetch(x + i, 0, 2);
      }
    }
  }
};

// tile[i][p] = k[begin + p][i], tile being [padded(head_dim), kTileLen]; begin and num_positions are multiples of
// kLanes.
template <class Dtype>
void unpack_k(const Rows& k, std::int32_t begin, std::int32_t num_positions, std::int32_t head_dim, float* tile) {
  for (std::int32_t p = 0; p < num_positions; p += kLanes) {
    for (int j = 0; j < kLanes; ++j) {
      k.fetch_ahead_of<typename Dtype::Element>(begin + p + j, head_dim);
    }
    for (std::int32_t i = 0; i < head_dim; i += kLanes) {
      __m256 x[kLanes];
#pragma GCC unroll 8
      for (int j = 0; j < kLanes; ++j) {
        x[j] = load_padded<Dtype>(k.rows[begin + p + j], i, head_dim);
      }
      transpose(x);
#pragma GCC unroll 8
      for (int j = 0; j < kLanes; ++j) {
        _mm256_store_ps(tile + (i + j) * kTileLen + p, x[j]);
      }
    }
  }
}

// tile[p][i] = v[begin + p][i], tile being [kTileLen, padded(head_dim)].
template <class Dtype>
void unpack_v(const Rows& v, std::int32_t begin, std::int32_t num_positions, std::int32_t head_dim, float* tile) {
  for (std::int32_t p = begin; p < begin + num_positions; ++p) {
    v.fetch_ahead_of<typename Dtype::Element>(p, head_dim);
    for (std::int32_t i = 0; i < head_dim; i += kLanes) {
      _mm256_store_ps(tile, load_padded<Dtype>(v.rows[p], i, head_dim));
      tile += kLanes;
    }
  }
}

// exponents[r][p] = q[r] · k[p], exponents being [num_rows, kSplitLen]. Where a row does not attend it holds anything.
template <class Dtype>
void score(const SplitInputs& in, float* tile, float* exponents) {
  const Rows k{in.k_rows, in.end(), in.v_rows, in.end()};
  for (std::int32_t begin = in.begin() / kLanes * kLanes; begin < in.end(); begin += kTileLen) {
    const std::int32_t num_positions = padded(smaller(kTileLen, in.end() - begin));
    unpack_k<Dtype>(k, begin, num_positions, in.head_dim, tile);
    for_each_block(in.num_rows, num_positions, [&](const Block& block) {
      const std::int32_t column = begin + block.column;
      if (in.row_begins[block.row] < column + block.num_columns &&
          in.row_ends[block.row + block.num_rows - 1] > column) {
        multiply(block, {in.q + std::ptrdiff_t{block.row} * in.head_dim, in.head_dim}, {tile + block.column, kTileLen},
                 in.head_dim, {exponents + std::ptrdiff_t{block.row} * kSplitLen + column, kSplitLen}, Into::kEmpty);
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

void cap(float* row, std::int32_t begin, std::int32_t end, float exponent_cap) {
  for (std::int32_t p = begin; p < end; p += kLanes) {
    _mm256_store_ps(row + p, _mm256_mul_ps(_mm256_set1_ps(exponent_cap), tanh(_mm256_load_ps(row + p))));
  }
}

void hide(float* row, std::int32_t begin, std::int32_t end) {
  for (std::int32_t p = begin; p < end; ++p) {
    row[p] = -__builtin_inff();
  }
}

// Turns the exponents of one row into weights 2^(exponent - max). Lanes are counted from the start of the split, and
// what fills up the first and the last vector adds 0: the sum is that of the same terms in the same order whatever the
// others.
void weigh(float* row, std::int32_t row_begin, std::int32_t row_end, float exponent_cap, float* max, float* sum) {
  const std::int32_t begin = row_begin / kLanes * kLanes;
  const std::int32_t end = padded(row_end);
  if (exponent_cap != 0.0F) {
    cap(row, begin, end, exponent_cap);
  }
  hide(row, begin, row_begin);
  hide(row, row_end, end);
  __m256 maxes = _mm256_load_ps(row + begin);
  for (std::int32_t p = begin + kLanes; p < end; p += kLanes) {
    maxes = _mm256_max_ps(maxes, _mm256_load_ps(row + p));
  }
  *max = greatest_lane(maxes);
  const __m256 shift = _mm256_set1_ps(*max);
  __m256 sums = _mm256_setzero_ps();
  for (std::int32_t p = begin; p < end; p += kLanes) {
    const __m256 weights = exp2_of_nonpositive(_mm256_sub_ps(_mm256_load_ps(row + p), shift));
    _mm256_store_ps(row + p, weights);
    sums = _mm256_add_ps(sums, weights);
  }
  *sum = sum_of_lanes(sums);
}

// c[r] += sum over p of weights[r][p] · v[p] for the rows and columns of a block, p rising over [begin, end) where the
// row attends. No weight elsewhere is touched, not even as 0: what another row may see must not reach this one as 0 ·
// infinity. `weights` and `v` start at position 0, c at the block.
void accumulate_block(const SplitInputs& in, const Block& block, std::int32_t begin, std::int32_t end,
                      Matrix<const float> weights, Matrix<const float> v, Matrix<float> c) {
  const auto row_by_row = [&](std::int32_t from, std::int32_t to) {
    for (std::int32_t r = 0; r < block.num_rows; ++r) {
      const std::int32_t first = larger(from, in.row_begins[block.row + r]);
      const std::int32_t len = smaller(to, in.row_ends[block.row + r]) - first;
      if (len > 0) {
        multiply({.row = block.row + r, .num_rows = 1, .column = block.column, .num_columns = block.num_columns},
                 {weights.row(block.row + r) + first, kSplitLen}, {v.row(first) + block.column, v.stride}, len,
                 {c.row(r), c.stride}, Into::kFilled);
      }
    }
  };
  const std::int32_t first = smaller(end, larger(begin, in.row_begins[block.row + block.num_rows - 1]));
  const std::int32_t last = larger(first, smaller(end, in.row_ends[block.row]));  // all rows attend to [first, last)
  row_by_row(begin, first);
  if (last > first) {
    multiply(block, {weights.row(block.row) + first, kSplitLen}, {v.row(first) + block.column, v.stride}, last - first,
             c, Into::kFilled);
  }
  row_by_row(last, end);
}

template <class Dtype>
void accumulate_values(const SplitInputs& in, const float* weights, float* tile, float* acc) {
  const Rows v{in.v_rows, in.end(), in.next_k_rows, in.num_next_rows};
  const std::int32_t width = padded(in.head_dim);
  std::memset(acc, 0, static_cast<std::size_t>(in.num_rows * width) * sizeof(float));
  for (std::int32_t begin = in.begin(); begin < in.end(); begin += kTileLen) {
    const std::int32_t end = smaller(begin + kTileLen, in.end());
    unpack_v<Dtype>(v, begin, end - begin, in.head_dim, tile);
    for_each_block(in.num_rows, width, [&](const Block& block) {
      accumulate_block(in, block, begin, end, {weights, kSplitLen}, {tile - std::ptrdiff_t{begin} * width, width},
                       {acc + std::ptrdiff_t{block.row} * width + block.column, width});
    });
  }
}

template <class Dtype>
void attend_split(const SplitInputs& in, float* scratch, const PartialRows& out) {
  float* exponents = scratch;
  float* tile = scratch + std::ptrdiff_t{in.num_rows} * kSplitLen;
  score<Dtype>(in, tile, exponents);
  for (std::int32_t r = 0; r < in.num_rows; ++r) {
    weigh(exponents + std::ptrdiff_t{r} * kSplitLen, in.row_begins[r], in.row_ends[r], in.exponent_cap, out.max + r,
          out.sum + r);
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
