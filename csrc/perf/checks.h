#pragma once

#include <cmath>
#include <cstdint>
#include <sstream>
#include <string>

#include "base/error.h"

namespace blendserve {

// The one form of a complaint about a field of a spec.
template <typename Value>
void require(bool holds, const char* field, const Value& value, const char* remedy) {
  if (holds) return;
  std::ostringstream message;
  message << field << " is " << value << "; it must be " << remedy;
  throw InvalidInput(message.str());
}

inline void require_positive(const char* field, double value) {
  require(std::isfinite(value) && value > 0, field, value, "a positive finite number");
}

inline void require_at_least_one(const char* field, std::int64_t value) {
  require(value >= 1, field, value, "at least 1");
}

inline void require_element_bytes(const char* field, std::int64_t value) {
  require(value == 4 || value == 2 || value == 1, field, value, "4 (fp32), 2 (fp16, bf16) or 1 (fp8, int8)");
}

}  // namespace blendserve
