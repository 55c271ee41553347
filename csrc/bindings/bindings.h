#pragma once

#include <pybind11/pybind11.h>

namespace blendserve::bindings {

// One function per source file of this folder; module.cc calls them in order of dependency.

}  // namespace blendserve::bindings
