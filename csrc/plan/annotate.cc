#include "plan/annotate.h"

#include <algorithm>

namespace blendserve {

std::vector<double> max_output_lens(const TreeLayout& layout, const RequestCosts& costs) {
  std::vector<double> longest(layout.nodes.size(), 0.0);
  const auto raise = [&](NodeId id, double len) {
    double& known = longest[static_cast<std::size_t>(id)];
    known = std::max(known, len);
  };
  for (std::size_t leaf = 0; leaf < layout.rows.size(); ++leaf) {
    raise(layout.leaf_parents[leaf], costs.output_len(layout.rows[leaf]).mean);
  }
  for (std::size_t id = 0; id + 1 < layout.nodes.size(); ++id) raise(layout.nodes[id].parent, longest[id]);
  return longest;
}

std::vector<Cost> annotate(const TreeLayout& layout, const RequestCosts& costs) {
  std::vector<Cost> subtree(layout.nodes.size());
  for (std::int32_t leaf = 0; leaf < layout.num_leaves(); ++leaf) {
    const auto index = static_cast<std::size_t>(leaf);
    subtree[static_cast<std::size_t>(layout.leaf_parents[index])] +=
        costs.leaf(layout.rows[index], layout.leaf_parent_depth(leaf));
  }
  const auto longest = costs.has_cascade_attention() ? max_output_lens(layout, costs) : std::vector<double>{};
  for (std::size_t id = 0; id < layout.nodes.size(); ++id) {
    const TreeNode& node = layout.nodes[id];
    subtree[id] += costs.segment(layout.parent_depth(node), node.depth, longest.empty() ? 0.0 : longest[id]);
    if (node.parent != kNoNode) subtree[static_cast<std::size_t>(node.parent)] += subtree[id];
  }
  return subtree;
}

}  // namespace blendserve
