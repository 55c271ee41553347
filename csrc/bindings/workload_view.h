#pragma once

#include <pybind11/numpy.h>

#include "request/workload.h"

namespace blendserve::bindings {

// Prompts from Python without a copy; the arrays live as long as the workload. `tokens` is an int32 array and `offsets`
// an int64 one (int32 is widened), each of NumPy, Arrow or a memory map; or `tokens` is an Arrow list array and
// `offsets` None. Anything else is a ValueError that names the remedy.
Workload workload_of(const pybind11::object& tokens, const pybind11::object& offsets);

}  // namespace blendserve::bindings
