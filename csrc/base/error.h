#pragma once

#include <stdexcept>
#include <string>

namespace blendserve {

// Errors by cause. A shortage that is expected (no free block) is never an exception: it is a return value.

// The caller passed something it must change; the message names the value and the remedy. Python sees ValueError.
class InvalidInput : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

// An invariant of this library is broken: a bug here, not in the caller. Python sees RuntimeError.
class InternalError : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

namespace detail {
[[noreturn]] void raise_internal_error(const char* condition, const char* file, int line);
}

}  // namespace blendserve

// Holds in every build type: a broken invariant must not turn into a wrong answer.
#define BLENDSERVE_ASSERT(condition)                                              \
  do {                                                                            \
    if (!(condition)) {                                                           \
      ::blendserve::detail::raise_internal_error(#condition, __FILE__, __LINE__); \
    }                                                                             \
  } while (false)
