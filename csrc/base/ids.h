#pragma once

#include <cstdint>

namespace blendserve {

using Token = std::int32_t;      // a vocabulary index
using RequestId = std::int32_t;  // a row of the scheduler's request table, in order of arrival
using BlockId = std::int32_t;    // a physical KV block, 0 <= id < num_blocks

inline constexpr BlockId kNoBlock = -1;
inline constexpr RequestId kNoRequest = -1;

}  // namespace blendserve
