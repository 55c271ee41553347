#pragma once

#include <cstddef>
#include <cstdint>

#include "base/kv_layout.h"

namespace blendserve::cpu {

inline constexpr std::int32_t kSplitLen = 256;  // positions

// Rows of accumulators are padded to whole vectors of kLanes floats; what lies in the padding is unspecified.
inline constexpr std::int32_t kLanes = 16;
[[gnu::always_inline]] constexpr std::int32_t padded(std::int32_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

[[gnu::always_inline]] constexpr std::int32_t smaller(std::int32_t a, std::int32_t b) { return a < b ? a : b; }
[[gnu::always_inline]] constexpr std::int32_t larger(std::int32_t a, std::int32_t b) { return a > b ? a : b; }

// Query rows of one KV head, or those of one token for consecutive KV heads, against one split of their positions.
// Positions count from the start of the split. The head behind another has its K and V head_stride bytes further on.
struct SplitInputs {
  // [num_kv_heads, num_rows, head_dim] scaled: q · k is an exponent of 2, or see exponent_cap
  const float* q = nullptr;
  const std::int32_t* row_begins = nullptr;  // [num_rows] first position a row attends to, never falling
  const std::int32_t* row_ends = nullptr;    // [num_rows] one past its last: > row_begins, never falling
  // Each [head_dim] of the first head, from row_begins[0] to row_ends[num_rows - 1]; the first and the last are
  // repeated outwards to whole vectors.
  const void* const* k_rows = nullptr;
  const void* const* v_rows = nullptr;
  // [num_next_rows] of the first head, read next: only fetched into the cache
  const void* const* next_k_rows = nullptr;
  std::int32_t num_next_rows = 0;
  std::int32_t num_kv_heads = 1;
  std::int32_t num_rows = 0;  // of each KV head
  std::int32_t head_dim = 0;
  std::ptrdiff_t head_stride = 0;
  float exponent_cap = 0.0F;  // 0: none; else the exponent of 2 is exponent_cap · tanh(q · k)
  KvDtype kv_dtype = KvDtype::kFloat32;

  [[gnu::always_inline]] std::int32_t begin() const { return row_begins[0]; }
  [[gnu::always_inline]] std::int32_t end() const { return row_ends[num_rows - 1]; }  // at most kSplitLen
  [[gnu::always_inline]] std::ptrdiff_t all_rows() const { return std::ptrdiff_t{num_kv_heads} * num_rows; }
};

// Attention over some positions, before the division by the sum.
struct PartialRows {
  float* max = nullptr;           // [all_rows] greatest exponent
  float* sum = nullptr;           // [all_rows] sum of 2^(exponent - max)
  float* acc = nullptr;           // [all_rows, acc_stride] sum of 2^(exponent - max) · v
  std::ptrdiff_t acc_stride = 0;  // padded(head_dim)

  [[gnu::always_inline]] PartialRows from(std::ptrdiff_t row) const {
    return {max + row, sum + row, acc + row * acc_stride, acc_stride};
  }
};

// Twins. What they write for a row depends on that row of `in` alone. `scratch` has split_scratch_len() floats and
// starts on a cache line; all_rows is that of `in`.
void attend_split_scalar(const SplitInputs& in, float* scratch, const PartialRows& out);
void attend_split_avx2(const SplitInputs& in, float* scratch, const PartialRows& out);
void attend_split_avx512(const SplitInputs& in, float* scratch, const PartialRows& out);

inline constexpr std::int32_t kTileLen = 32;  // positions of K or V unpacked at a time

constexpr std::size_t split_scratch_len(std::int32_t all_rows, std::int32_t head_dim) {
  return static_cast<std::size_t>(all_rows) * kSplitLen + static_cast<std::size_t>(padded(head_dim)) * kTileLen;
}

}  // namespace blendserve::cpu
