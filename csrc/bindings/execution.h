#pragma once

#include <string>

#include "base/error.h"
#include "perf/step_time.h"

namespace blendserve::bindings {

inline Execution execution_named(const std::string& name) {
  if (name == "sequential") return Execution::kSequential;
  if (name == "overlapped") return Execution::kOverlapped;
  throw InvalidInput("execution is \"" + name + "\"; it must be sequential or overlapped");
}

}  // namespace blendserve::bindings
