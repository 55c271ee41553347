#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/attention_split.h"

namespace blendserve::cpu::simd {

// How K and V are kept. A row is read in pieces of kPieceLen elements, one vector of 32-bit lanes each; store_lanes()
// takes such lanes of K, transposed: each is 1 or 2 elements of one of the positions.
template <class Vector>
struct Float32 {
  using Element = float;
  static constexpr std::int32_t kPerLane = 1;
  static constexpr std::int32_t kPieceLen = Vector::kLen;
  static typename Vector::Floats load(const Element* x) { return Vector::load(x); }
  static typename Vector::Floats multiply_add(const float* y, typename Vector::Floats lanes,
                                              typename Vector::Floats sum) {
    return Vector::multiply_add(Vector::broadcast(y[0]), lanes, sum);
  }
  static void store_lanes(typename Vector::Floats lanes, std::int32_t lane, float* columns, std::ptrdiff_t stride) {
    Vector::store(columns + lane * stride, lanes);
  }
};

template <class Vector>
struct BFloat16 {
  using Element = std::uint16_t;
  static constexpr std::int32_t kPerLane = 2;
  static constexpr std::int32_t kPieceLen = 2 * Vector::kLen;
  static typename Vector::Floats load(const Element* x) { return Vector::widen(x); }
  static typename Vector::Floats multiply_add(const float* y, typename Vector::Floats lanes,
                                              typename Vector::Floats sum) {
    sum = Vector::multiply_add(Vector::broadcast(y[0]), Vector::widen_first(lanes), sum);
    return Vector::multiply_add(Vector::broadcast(y[1]), Vector::widen_second(lanes), sum);
  }
  static void store_lanes(typename Vector::Floats lanes, std::int32_t lane, float* columns, std::ptrdiff_t stride) {
    Vector::store(columns + 2 * lane * stride, Vector::widen_first(lanes));
    Vector::store(columns + (2 * lane + 1) * stride, Vector::widen_second(lanes));
  }
};

// load(x), where x points to kLen elements [begin, begin + kLen) of a row of `len`, those past its end 0.
template <std::int32_t kLen, class Element, class Load>
[[gnu::always_inline]] inline auto load_padded(const void* row, std::int32_t begin, std::int32_t len,
                                               const Load& load) {
  const Element* x = static_cast<const Element*>(row) + begin;
  if (begin + kLen <= len) {
    return load(x);
  }
  Element rest[kLen] = {};
  std::memcpy(rest, x, static_cast<std::size_t>(len - begin) * sizeof(Element));
  return load(rest);
}

// The lines of rows [row, end), to be fetched a few at a time in the order in which they lie in memory: the hardware
// prefetcher joins in.
template <class Element>
struct Lines {
  const void* const* row;
  const void* const* end;
  std::int32_t row_len;
  std::int32_t begin = 0;

  // Inlined by force: GCC takes a call that only prefetches for one without effect and drops it.
  [[gnu::always_inline]] void fetch_elements(std::int32_t num_elements) {
    constexpr std::int32_t kLineLen = 64 / static_cast<std::int32_t>(sizeof(Element));
    for (std::int32_t i = 0; i < num_elements && row != end; i += kLineLen) {
      __builtin_prefetch(static_cast<const Element*>(*row) + begin, 0, 2);
      begin += kLineLen;
      if (begin >= row_len) {
        begin = 0;
        ++row;
      }
    }
  }
};

// The rows that are read, and those after them. They are fetched into the L2 cache kAheadLen rows before their turn,
// with the work on others in between: the few misses that L1 can wait for at once do not fill the memory bus, and the
// hardware prefetcher starts anew in every block.
struct Rows {
  static constexpr std::int32_t kAheadLen = 32;

  const void* const* rows;
  std::int32_t num_rows;
  const void* const* next_rows;
  std::int32_t num_next_rows;

  // `len` rows to fetch while as many from `row` on are worked on; these themselves where there are not so many more.
  template <class Element>
  [[gnu::always_inline]] Lines<Element> ahead_of(std::int32_t row, std::int32_t len, std::int32_t row_len) const {
    const std::int32_t ahead = row + kAheadLen;
    const std::int32_t next = ahead < num_rows ? 0 : ahead - num_rows;
    const void* const* first = ahead + len <= num_rows       ? rows + ahead
                               : next + len <= num_next_rows ? next_rows + next
                                                             : rows + row;
    return {first, first + len, row_len};
  }
};

// tile[i][p] = k[begin + p][i], tile being [padded(head_dim), kTileLen]; begin and num_positions are multiples of
// kLanes.
template <class Vector, class Dtype>
void unpack_k(const Rows& k, std::int32_t begin, std::int32_t num_positions, std::int32_t head_dim, float* tile) {
  using Element = typename Dtype::Element;
  for (std::int32_t p = 0; p < num_positions; p += Vector::kLen) {
    Lines<Element> ahead = k.ahead_of<Element>(begin + p, Vector::kLen, head_dim);
    for (std::int32_t i = 0; i < head_dim; i += Dtype::kPieceLen) {
      ahead.fetch_elements(Vector::kLen * Dtype::kPieceLen);
      typename Vector::Floats x[Vector::kLen];
#pragma GCC unroll 16
      for (std::int32_t j = 0; j < Vector::kLen; ++j) {
        x[j] = load_padded<Dtype::kPieceLen, Element>(k.rows[begin + p + j], i, head_dim, Vector::load);
      }
      Vector::transpose(x);
#pragma GCC unroll 16
      for (std::int32_t j = 0; j < Vector::kLen; ++j) {
        Dtype::store_lanes(x[j], j, tile + std::ptrdiff_t{i} * kTileLen + p, kTileLen);
      }
    }
  }
}

// tile[p][i] = v[begin + p][i], tile being [kTileLen, padded(head_dim)].
template <class Vector, class Dtype>
void unpack_v(const Rows& v, std::int32_t begin, std::int32_t num_positions, std::int32_t head_dim, float* tile) {
  using Element = typename Dtype::Element;
  const std::int32_t width = padded(head_dim);
  Lines<Element> ahead = v.ahead_of<Element>(begin, num_positions, head_dim);
  for (std::int32_t p = 0; p < num_positions; ++p, tile += width) {
    ahead.fetch_elements(head_dim);
    for (std::int32_t i = 0; i < head_dim; i += Vector::kLen) {
      Vector::store(tile + i, load_padded<Vector::kLen, Element>(v.rows[begin + p], i, head_dim, Dtype::load));
    }
  }
}

}  // namespace blendserve::cpu::simd
