#pragma once

#include <cstdint>

#include "base/kv_layout.h"
#include "base/thread_pool.h"

namespace blendserve::cpu {

// T tokens; rows of one token are dense, those of the next start k_stride (v_stride) elements later.
struct KvAppendParams {
  const float* k = nullptr;                    // [T, num_kv_heads, head_dim]
  const float* v = nullptr;                    // [T, num_kv_heads, head_dim]
  const std::int64_t* slot_mapping = nullptr;  // [T] block * block_size + offset, no slot twice
  void* kv = nullptr;                          // one layer, as `layout` says, of kv_dtype
  std::int64_t k_stride = 0;
  std::int64_t v_stride = 0;
  std::int64_t num_tokens = 0;
  KvLayout layout;
  KvDtype kv_dtype = KvDtype::kFloat32;
};

// Writes the K and V of each token to its slot, rounded to nearest even. Throws InvalidInput, before anything is
// written, when a slot lies outside the cache.
void kv_append(const KvAppendParams& params, ThreadPool& pool);

}  // namespace blendserve::cpu
