#pragma once

#include <cstdint>

#include "model/decoder_layer.h"

namespace blendserve {

// What one layer costs, for overlap_split().
struct LayerCosts {
  std::int64_t products_per_token = 0;  // multiply-adds
  std::int64_t kv_position_bytes = 0;   // K and V of one position
  std::int64_t weight_bytes = 0;
};

// How many of a step's first sequences to make a nano-batch of, whose products hide the KV reads of the others and the
// other way round; 0 where that does not pay. Then no sequence before the cut reads what one behind it writes.
std::int32_t overlap_split(const LayerStep& step, const LayerCosts& costs, std::int32_t block_size);

}  // namespace blendserve
