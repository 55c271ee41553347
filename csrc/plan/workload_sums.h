#pragma once

#include "perf/bounds.h"
#include "plan/request_costs.h"
#include "tree/tree_layout.h"

namespace blendserve {

// The sums that the bounds of a job are made of, with every segment of the tree computed once (and, with cascade
// attention, read once a step). `layout` is the tree's own.
WorkloadSums workload_sums(const TreeLayout& layout, const RequestCosts& costs);

}  // namespace blendserve
