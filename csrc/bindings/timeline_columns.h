#pragma once

#include <pybind11/pybind11.h>

#include <span>

#include "sim/timeline.h"

namespace blendserve::bindings {

// A timeline as a dict of arrays, float64.
pybind11::dict columns_of(std::span<const TimelineBin> bins);

}  // namespace blendserve::bindings
