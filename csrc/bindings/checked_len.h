#pragma once

#include <cstdint>
#include <limits>
#include <string>

#include "base/error.h"

namespace blendserve::bindings {

inline std::int32_t checked_len(const char* name, std::int64_t len) {
  if (len > std::numeric_limits<std::int32_t>::max()) {
    throw InvalidInput(std::string(name) + " is too long (" + std::to_string(len) + ")");
  }
  return static_cast<std::int32_t>(len);
}

}  // namespace blendserve::bindings
