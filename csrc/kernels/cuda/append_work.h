#pragma once

#include <cstdint>

#include "base/kv_layout.h"
#include "kernels/cuda/host_device.h"

// How the threads of an append divide a token: each takes 8 elements of one head and the 8 that lie half a head
// further, since a rotation mixes those.
namespace blendserve::cuda {

inline constexpr int kAppendElements = 8;  // of one 16-byte access to queries, keys and values

enum class HeadKind : std::uint8_t { kQuery, kKey, kValue };

struct HeadPart {
  HeadKind kind;
  std::int32_t head;     // among those of its kind
  std::int32_t element;  // the first of the first half's; the other half's are head_dim / 2 further
};

struct AppendWork {
  std::int32_t num_query_heads;  // 0 unless they are rotated
  std::int32_t num_kv_heads;
  std::int32_t head_dim;

  BLENDSERVE_HOST_DEVICE constexpr std::int32_t parts_of_head() const { return head_dim / (2 * kAppendElements); }
  BLENDSERVE_HOST_DEVICE constexpr std::int32_t parts_of_token() const {
    return (num_query_heads + 2 * num_kv_heads) * parts_of_head();
  }
  BLENDSERVE_HOST_DEVICE constexpr HeadPart part(std::int32_t at) const {
    const std::int32_t head = at / parts_of_head();
    const std::int32_t element = at % parts_of_head() * kAppendElements;
    if (head < num_query_heads) {
      return {HeadKind::kQuery, head, element};
    }
    const std::int32_t kv_head = head - num_query_heads;
    return kv_head < num_kv_heads ? HeadPart{HeadKind::kKey, kv_head, element}
                                  : HeadPart{HeadKind::kValue, kv_head - num_kv_heads, element};
  }
};

// Where a key's or value's part goes in the cache.
BLENDSERVE_HOST_DEVICE constexpr std::int64_t cache_offset(const KvLayout& layout, std::int64_t slot,
                                                           const HeadPart& part) {
  const auto block = static_cast<BlockId>(slot / layout.block_size);
  const std::int64_t tile =
      part.kind == HeadKind::kValue ? layout.v_offset(block, part.head) : layout.k_offset(block, part.head);
  return tile + slot % layout.block_size * layout.head_dim + part.element;
}

// One element of a head after rotation; `other` lies half a head away, `signed_sin` is negative in the first half.
// round() makes a float what the head's type keeps of it: after each operation, as torch does it.
template <typename Round>
BLENDSERVE_HOST_DEVICE float rotated(float x, float other, float cos, float signed_sin, Round round) {
  return round(round(x * cos) + other * signed_sin);
}

}  // namespace blendserve::cuda
