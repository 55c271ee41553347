#pragma once

#include <cstdint>

namespace blendserve {

// Standard deviation of a request's KV reads p·d + d²/2 (the paper's Mem without its constants) when all that is known
// of d is that it is exponential with mean `mean_len` and ends at `max_len`. In tokens².
double memory_spread(std::int32_t prompt_len, double mean_len, double max_len);

}  // namespace blendserve
