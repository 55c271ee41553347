#pragma once

#include <cstdint>
#include <limits>
#include <string>

#include "base/error.h"

namespace blendserve::bindings {

inline std::int32_t checked_len(const char* name, std::int64_t len) {
  if (len > std::numeric_limits<std::int32_t>::max()) {
    throw InvalidInput(std::string(name) + " has " + std::to_string(len) + " entries; it must have at most " +
                       std::to_string(std::numeric_limits<std::int32_t>::max()));
  }
  return static_cast<std::int32_t>(len);
}

}  // namespace blendserve::bindings
