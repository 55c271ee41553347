#pragma once

#include <pybind11/pybind11.h>

#include "plan/plan.h"

namespace blendserve::bindings {

// A plan's figures under the names of docs/metrics.md.
pybind11::dict summary_of(const Plan& plan);
// The summary that had these figures; those that follow from others are not read. Throws InvalidInput where one is
// missing or of another type.
PlanSummary summary_from(const pybind11::dict& figures);

}  // namespace blendserve::bindings
