#include "tree/tree_layout.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/huge_pages.h"

namespace blendserve {
namespace {

// The nodes in the order in which they end, from left to right; their parents are not known yet.
std::vector<TreeNode> nodes_of(const std::vector<std::int32_t>& lcp) {
  std::vector<TreeNode> nodes;
  std::vector<TreeNode> open{TreeNode{}};  // have their last leaf still to come; the root first
  const auto close = [&](std::int32_t end) {
    open.back().end = end;
    nodes.push_back(open.back());
    open.pop_back();
  };
  const auto num_leaves = static_cast<std::int32_t>(lcp.size());
  for (std::int32_t leaf = 0; leaf < num_leaves; ++leaf) {
    const std::int32_t next_lcp = leaf + 1 < num_leaves ? lcp[static_cast<std::size_t>(leaf) + 1] : 0;
    std::int32_t begin = leaf;  // of the node that the next leaf is below too
    while (open.back().depth > next_lcp) {
      begin = open.back().begin;
      close(leaf + 1);
    }
    if (open.back().depth < next_lcp) open.push_back({.begin = begin, .depth = next_lcp});
  }
  close(num_leaves);
  return nodes;
}

// From right to left parents come before their children: those above a leaf are a stack.
void set_parents(TreeLayout& layout) {
  resize_huge(layout.leaf_parents, layout.rows.size());
  NodeId next = layout.root();
  std::vector<NodeId> above;
  for (std::int32_t leaf = layout.num_leaves() - 1; leaf >= 0; --leaf) {
    while (!above.empty() && layout.node(above.back()).begin > leaf) above.pop_back();
    for (; next >= 0 && layout.node(next).end == leaf + 1; --next) {
      if (!above.empty()) layout.nodes[static_cast<std::size_t>(next)].parent = above.back();
      above.push_back(next);
    }
    layout.leaf_parents[static_cast<std::size_t>(leaf)] = above.back();
  }
}

}  // namespace

TreeLayout TreeLayout::from_lcp(std::vector<std::int32_t> rows, std::vector<std::int32_t> lcp) {
  BLENDSERVE_ASSERT(rows.size() == lcp.size() && (lcp.empty() || lcp.front() == 0));
  TreeLayout layout;
  layout.rows = std::move(rows);
  layout.lcp = std::move(lcp);
  layout.nodes = nodes_of(layout.lcp);
  set_parents(layout);
  return layout;
}

void TreeLayout::verify() const {
  const auto n = static_cast<std::size_t>(num_leaves());
  BLENDSERVE_ASSERT(lcp.size() == n && leaf_parents.size() == n && !nodes.empty());
  BLENDSERVE_ASSERT(n == 0 || lcp[0] == 0);
  std::vector<std::int32_t> num_children(nodes.size(), 0);
  std::vector<std::int32_t> num_covered(nodes.size(), 0);  // leaves below the node, counted through its children
  for (std::size_t leaf = 0; leaf < n; ++leaf) {
    const auto parent = static_cast<std::size_t>(leaf_parents[leaf]);
    BLENDSERVE_ASSERT(parent < nodes.size());
    const auto position = static_cast<std::int32_t>(leaf);
    BLENDSERVE_ASSERT(nodes[parent].begin <= position && position < nodes[parent].end);
    const std::int32_t next_lcp = leaf + 1 < n ? lcp[leaf + 1] : 0;
    BLENDSERVE_ASSERT(nodes[parent].depth == std::max(lcp[leaf], next_lcp));
    ++num_children[parent];
    ++num_covered[parent];
  }
  for (std::size_t id = 0; id < nodes.size(); ++id) {
    const TreeNode& each = nodes[id];
    BLENDSERVE_ASSERT(num_covered[id] == each.end - each.begin);
    if (each.parent == kNoNode) {
      BLENDSERVE_ASSERT(id + 1 == nodes.size() && each.depth == 0 && each.begin == 0 && each.end == num_leaves());
      continue;
    }
    const auto parent = static_cast<std::size_t>(each.parent);
    BLENDSERVE_ASSERT(id < parent && parent < nodes.size() && nodes[parent].depth < each.depth);
    BLENDSERVE_ASSERT(nodes[parent].begin <= each.begin && each.end <= nodes[parent].end);
    BLENDSERVE_ASSERT(num_children[id] >= 2);
    ++num_children[parent];
    num_covered[parent] += num_covered[id];
  }
}

}  // namespace blendserve
