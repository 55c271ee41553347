#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/attention_split.h"

namespace blendserve::cpu::simd {

// How K and V are kept. A row of K is read in pieces of kPiece 32-bit lanes, each 1 or 2 elements; transposed, a lane
// of kLen positions is a vector, which multiply_add() and store_lanes() take.
template <class Vector>
struct Float32 {
  using Element = float;
  static constexpr std::int32_t kElementSize = 4;
  static constexpr std::int32_t kPerLane = 1;
  static constexpr std::int32_t kPieceLen = Vector::kPiece;
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
  static constexpr std::int32_t kElementSize = 2;
  static constexpr std::int32_t kPerLane = 2;
  static constexpr std::int32_t kPieceLen = 2 * Vector::kPiece;
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
[[gnu::always_inline]] inline auto load_padded(const Element* row, std::int32_t begin, std::int32_t len,
                                               const Load& load) {
  const Element* x = row + begin;
  if (begin + kLen <= len) {
    return load(x);
  }
  Element rest[kLen] = {};
  std::memcpy(rest, x, static_cast<std::size_t>(len - begin) * sizeof(Element));
  return load(rest);
}

// Rows of one head of K or V, each `offset` bytes behind where it points.
struct RowsOfHead {
  const void* const* rows;
  std::int32_t num_rows;
  std::ptrdiff_t offset;

  [[gnu::always_inline]] const char* at(std::int32_t row) const { return static_cast<const char*>(rows[row]) + offset; }
};

// Those that are read, and those after them.
struct Rows {
  // So many rows before their turn they are fetched into the L2 cache, with the work on others in between.
  static constexpr std::int32_t kAheadLen = 64;

  RowsOfHead now;
  RowsOfHead next;

  template <class Element>
  [[gnu::always_inline]] const Element* at(std::int32_t row) const {
    return reinterpret_cast<const Element*>(now.at(row));
  }

  // The row that comes kAheadLen behind `row`, if there is one. Inlined by force: GCC takes a call that only prefetches
  // for one without effect and drops it.
  [[gnu::always_inline]] void fetch_ahead_of(std::int32_t row, std::ptrdiff_t row_bytes) const {
    const std::int32_t ahead = row + kAheadLen;
    if (ahead < now.num_rows + next.num_rows) {
      const char* const x = ahead < now.num_rows ? now.at(ahead) : next.at(ahead - now.num_rows);
      for (std::ptrdiff_t i = 0; i < row_bytes; i += 64) {
        __builtin_prefetch(x + i, 0, 2);
      }
    }
  }
};

// The lanes of a piece of kLen rows of K that starts at element i of `len`, transposed; those past the end are 0.
template <class Vector, class Dtype>
[[gnu::always_inline]] inline void load_piece(const Rows& k, std::int32_t p, std::int32_t i, std::int32_t len,
                                              typename Vector::Floats (&x)[Vector::kPiece]) {
  using Element = typename Dtype::Element;
  if (i + Dtype::kPieceLen <= len) {
    Vector::load_transposed(k.now.rows + p, k.now.offset + i * Dtype::kElementSize, x);
    return;
  }
  Element rests[Vector::kLen][Dtype::kPieceLen] = {};
  const void* rest_rows[Vector::kLen];
  for (std::int32_t j = 0; j < Vector::kLen; ++j) {
    std::memcpy(rests[j], k.template at<Element>(p + j) + i, static_cast<std::size_t>(len - i) * sizeof(Element));
    rest_rows[j] = rests[j];
  }
  Vector::load_transposed(rest_rows, 0, x);
}

// tile[i][p] = k[begin + p][i], tile being [padded(head_dim), kTileLen]; begin and num_positions are multiples of
// kLanes.
template <class Vector, class Dtype>
void unpack_k(const Rows& k, std::int32_t begin, std::int32_t num_positions, std::int32_t head_dim, float* tile) {
  for (std::int32_t p = 0; p < num_positions; p += Vector::kLen) {
    for (std::int32_t j = 0; j < Vector::kLen; ++j) {
      k.fetch_ahead_of(begin + p + j, head_dim * Dtype::kElementSize);
    }
    for (std::int32_t i = 0; i < head_dim; i += Dtype::kPieceLen) {
      typename Vector::Floats x[Vector::kPiece];
      load_piece<Vector, Dtype>(k, begin + p, i, head_dim, x);
#pragma GCC unroll 8
      for (std::int32_t j = 0; j < Vector::kPiece; ++j) {
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
  for (std::int32_t p = 0; p < num_positions; ++p, tile += width) {
    v.fetch_ahead_of(begin + p, head_dim * Dtype::kElementSize);
    for (std::int32_t i = 0; i < head_dim; i += Vector::kLen) {
      Vector::store(tile + i, load_padded<Vector::kLen>(v.template at<Element>(begin + p), i, head_dim, Dtype::load));
    }
  }
}

}  // namespace blendserve::cpu::simd
