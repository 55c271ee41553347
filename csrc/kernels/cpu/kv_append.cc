#include "kernels/cpu/kv_append.h"

#include <algorithm>
#include <string>

#include "base/error.h"
#include "kernels/cpu/bfloat16.h"

namespace blendserve::cpu {

namespace {

constexpr std::int64_t kTokensPerTask = 32;

void store(const float* values, std::int32_t n, float* out) { std::copy_n(values, n, out); }

void store(const float* values, std::int32_t n, std::uint16_t* out) {
  std::transform(values, values + n, out, bfloat16_from_float);
}

template <class Element>
void append_token(const KvAppendParams& params, std::int64_t token) {
  const KvLayout& layout = params.layout;
  const std::int64_t slot = params.slot_mapping[token];
  const auto block = static_cast<BlockId>(slot / layout.block_size);
  const std::int64_t row = slot % layout.block_size * layout.head_dim;
  auto* kv = static_cast<Element*>(params.kv);
  for (std::int32_t head = 0; head < layout.num_kv_heads; ++head) {
    const std::int64_t column = std::int64_t{head} * layout.head_dim;
    store(params.k + token * params.k_stride + column, layout.head_dim, kv + layout.k_offset(block, head) + row);
    store(params.v + token * params.v_stride + column, layout.head_dim, kv + layout.v_offset(block, head) + row);
  }
}

void check_slots(const KvAppendParams& params) {
  const std::int64_t num_slots = params.layout.num_blocks * params.layout.block_size;
  for (std::int64_t t = 0; t < params.num_tokens; ++t) {
    if (params.slot_mapping[t] < 0 || params.slot_mapping[t] >= num_slots) {
      throw InvalidInput("slot_mapping[" + std::to_string(t) + "] is " + std::to_string(params.slot_mapping[t]) +
                         "; the cache has slots 0 to " + std::to_string(num_slots - 1));
    }
  }
}

}  // namespace

void kv_append(const KvAppendParams& params, ThreadPool& pool) {
  check_slots(params);
  const std::int64_t num_tasks = (params.num_tokens + kTokensPerTask - 1) / kTokensPerTask;
  pool.parallel_for(num_tasks, [&](std::int64_t task) {
    const std::int64_t end = std::min(params.num_tokens, (task + 1) * kTokensPerTask);
    for (std::int64_t token = task * kTokensPerTask; token < end; ++token) {
      if (params.kv_dtype == KvDtype::kFloat32) {
        append_token<float>(params, token);
      } else {
        append_token<std::uint16_t>(params, token);
      }
    }
  });
}

}  // namespace blendserve::cpu
