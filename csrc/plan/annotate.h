#pragma once

#include <vector>

#include "plan/request_costs.h"
#include "tree/tree_layout.h"

namespace blendserve {

// The unique cost of every node's subtree: its own segment once, and all that lies below it. By NodeId; linear.
std::vector<Cost> annotate(const TreeLayout& layout, const RequestCosts& costs);

// The longest expected output below every node, tokens. By NodeId.
std::vector<double> max_output_lens(const TreeLayout& layout, const RequestCosts& costs);

}  // namespace blendserve
