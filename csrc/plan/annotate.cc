#include "plan/annotate.h"

#include <algorithm>
#include <utility>

#include "base/huge_pages.h"

namespace blendserve {

std::vector<double> max_output_lens(const TreeLayout& layout, const RequestShapes& shapes) {
  std::vector<double> longest(layout.nodes.size(), 0.0);
  const auto raise = [&](NodeId id, double len) {
    double& known = longest[static_cast<std::size_t>(id)];
    known = std::max(known, len);
  };
  for (std::size_t leaf = 0; leaf < layout.rows.size(); ++leaf) {
    raise(layout.leaf_parents[leaf], shapes[leaf].output_len.mean);
  }
  for (std::size_t id = 0; id + 1 < layout.nodes.size(); ++id) raise(layout.nodes[id].parent, longest[id]);
  return longest;
}

AnnotatedTree annotate(TreeLayout layout, RequestShapes shapes, const RequestCosts& costs) {
  AnnotatedTree tree{std::move(layout), std::move(shapes), {}, costs};
  const auto& nodes = tree.layout.nodes;
  resize_huge(tree.subtrees, nodes.size());
  for (std::int32_t leaf = 0; leaf < tree.layout.num_leaves(); ++leaf) {
    const NodeId parent = tree.layout.leaf_parents[static_cast<std::size_t>(leaf)];
    tree.subtrees[static_cast<std::size_t>(parent)] += tree.leaf(leaf);
  }
  const auto longest =
      costs.has_cascade_attention() ? max_output_lens(tree.layout, tree.shapes) : std::vector<double>{};
  for (std::size_t id = 0; id < nodes.size(); ++id) {
    Cost& subtree = tree.subtrees[id];
    subtree += costs.segment(tree.layout.parent_depth(nodes[id]), nodes[id].depth, longest.empty() ? 0.0 : longest[id]);
    if (nodes[id].parent != kNoNode) tree.subtrees[static_cast<std::size_t>(nodes[id].parent)] += subtree;
  }
  return tree;
}

}  // namespace blendserve
