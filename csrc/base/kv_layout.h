#pragma once

#include <cstdint>

#include "base/ids.h"

namespace blendserve {

enum class KvDtype : std::uint8_t { kFloat32, kBFloat16 };

// The only statement of how paged keys and values lie in memory. One layer is one contiguous array
//   [num_blocks, 2 (K, then V), num_kv_heads, block_size, head_dim]
// so that one head of one block is a dense [block_size, head_dim] tile. Offsets are in elements.
struct KvLayout {
  std::int64_t num_blocks = 0;
  std::int32_t num_kv_heads = 0;
  std::int32_t block_size = 0;
  std::int32_t head_dim = 0;

  constexpr std::int64_t tile_size() const { return std::int64_t{block_size} * head_dim; }
  constexpr std::int64_t block_stride() const { return 2 * num_kv_heads * tile_size(); }
  constexpr std::int64_t layer_size() const { return num_blocks * block_stride(); }

  constexpr std::int64_t k_offset(BlockId block, std::int32_t kv_head) const {
    return block * block_stride() + kv_head * tile_size();
  }
  constexpr std::int64_t v_offset(BlockId block, std::int32_t kv_head) const {
    return k_offset(block, kv_head) + num_kv_heads * tile_size();
  }
};

}  // namespace blendserve
