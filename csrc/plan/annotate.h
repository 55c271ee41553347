#pragma once

#include <vector>

#include "plan/request_costs.h"
#include "plan/request_shapes.h"
#include "tree/tree_layout.h"

namespace blendserve {

// A layout with the cost of each of its parts. All that is known of requests stands in the order of the leaves: it is
// read from left to right, which is many times faster than by row.
struct AnnotatedTree {
  TreeLayout layout;
  RequestShapes shapes;        // [n] by leaf
  std::vector<Cost> subtrees;  // by NodeId: the unique cost of the node's segment and of all that lies below it
  RequestCosts costs;          // borrows the model

  // What the request costs beyond its parent: less to work out than to read.
  Cost leaf(std::int32_t leaf) const {
    return costs.leaf(shapes[static_cast<std::size_t>(leaf)], layout.leaf_parent_depth(leaf));
  }
  const Cost& total() const { return subtrees.back(); }
};

// `shapes` by leaf of `layout`.
AnnotatedTree annotate(TreeLayout layout, RequestShapes shapes, const RequestCosts& costs);

// The longest expected output below every node, tokens. By NodeId.
std::vector<double> max_output_lens(const TreeLayout& layout, const RequestShapes& shapes);

}  // namespace blendserve
