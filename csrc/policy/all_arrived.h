#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/error.h"

namespace blendserve {

// A plan is followed once all its requests are there.
inline void require_all_arrived(std::int32_t num_planned, std::size_t num_arrived) {
  if (num_arrived >= static_cast<std::size_t>(num_planned)) return;
  throw InvalidInput("the plan has " + std::to_string(num_planned) + " requests, and " + std::to_string(num_arrived) +
                     " were added; add all of them before the first step");
}

}  // namespace blendserve
