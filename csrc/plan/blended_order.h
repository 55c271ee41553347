#pragma once

#include <cstdint>
#include <vector>

#include "plan/dual_scan.h"

namespace blendserve {

// The rows in the order in which the dual scanner admits them when every output is as long as expected: for engines
// that take a list. A step computes `step_tokens` tokens; a request runs for as many steps as it has output tokens.
std::vector<std::int32_t> blended_order(const AnnotatedTree& tree, DualScan scan, double step_tokens);

}  // namespace blendserve
