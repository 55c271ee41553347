#pragma once

#include "perf/bounds.h"
#include "plan/annotate.h"

namespace blendserve {

// The sums that the bounds of a job are made of, with every segment of the tree computed once (and, with cascade
// attention, read once a step).
WorkloadSums workload_sums(const AnnotatedTree& tree, bool has_cascade_attention);

}  // namespace blendserve
