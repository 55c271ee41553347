#pragma once

#include <vector>

#include "plan/request_costs.h"
#include "tree/tree_layout.h"

namespace blendserve {

// A layout with the cost of each of its parts.
struct AnnotatedTree {
  TreeLayout layout;
  std::vector<Cost> leaves;    // [n] by leaf: what the request costs beyond its parent
  std::vector<Cost> subtrees;  // by NodeId: the unique cost of the node's segment and of all that lies below it

  const Cost& total() const { return subtrees.back(); }
};

AnnotatedTree annotate(TreeLayout layout, const RequestCosts& costs);

// The longest expected output below every node, tokens. By NodeId.
std::vector<double> max_output_lens(const TreeLayout& layout, const RequestCosts& costs);

}  // namespace blendserve
