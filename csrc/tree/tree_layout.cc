#include "tree/tree_layout.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/huge_pages.h"

namespace blendserve {
namespace {

// Builds the nodes left to right. An open node has its last leaf still to come; it gets its final id when it closes, so
// that children come before parents.
class LayoutBuilder {
 public:
  explicit LayoutBuilder(TreeLayout& layout) : layout_(layout) { open(0, 0); }

  void build() {
    const auto num_leaves = layout_.num_leaves();
    resize_huge(layout_.leaf_parents, layout_.rows.size());
    for (std::int32_t leaf = 0; leaf < num_leaves; ++leaf) {
      const std::int32_t next_lcp = leaf + 1 < num_leaves ? layout_.lcp[static_cast<std::size_t>(leaf) + 1] : 0;
      if (next_lcp > top().depth) open(leaf, next_lcp);
      layout_.leaf_parents[static_cast<std::size_t>(leaf)] = stack_.back();
      close_deeper_than(next_lcp, leaf + 1);
    }
    close(num_leaves, kNoNode);
    renumber();
  }

 private:
  TreeNode& top() { return opened_[static_cast<std::size_t>(stack_.back())]; }

  void open(std::int32_t begin, std::int32_t depth) {
    stack_.push_back(static_cast<NodeId>(opened_.size()));
    opened_.push_back({.begin = begin, .depth = depth});
  }

  void close_deeper_than(std::int32_t depth, std::int32_t end) {
    while (top().depth > depth) {
      const auto above = opened_[static_cast<std::size_t>(stack_[stack_.size() - 2])];
      if (above.depth >= depth) {
        close(end, stack_[stack_.size() - 2]);
      } else {
        insert_parent(depth, end);
      }
    }
  }

  // The node that closes turns out to have a parent of `depth`, which starts where it starts and goes on.
  void insert_parent(std::int32_t depth, std::int32_t end) {
    const std::int32_t begin = top().begin;
    const NodeId child = stack_.back();
    stack_.pop_back();
    open(begin, depth);
    finish(child, end, stack_.back());
  }

  void close(std::int32_t end, NodeId parent) {
    const NodeId id = stack_.back();
    stack_.pop_back();
    finish(id, end, parent);
  }

  void finish(NodeId id, std::int32_t end, NodeId parent) {
    TreeNode& node = opened_[static_cast<std::size_t>(id)];
    node.end = end;
    node.parent = parent;
    closed_.push_back(id);
  }

  void renumber() {
    std::vector<NodeId> final_ids(opened_.size());
    for (std::size_t i = 0; i < closed_.size(); ++i) {
      final_ids[static_cast<std::size_t>(closed_[i])] = static_cast<NodeId>(i);
    }
    reserve_huge(layout_.nodes, opened_.size());
    for (const NodeId id : closed_) {
      TreeNode node = opened_[static_cast<std::size_t>(id)];
      if (node.parent != kNoNode) node.parent = final_ids[static_cast<std::size_t>(node.parent)];
      layout_.nodes.push_back(node);
    }
    for (NodeId& parent : layout_.leaf_parents) parent = final_ids[static_cast<std::size_t>(parent)];
  }

  TreeLayout& layout_;
  std::vector<TreeNode> opened_;  // by order of opening
  std::vector<NodeId> stack_;     // open nodes, the root first; indices of opened_
  std::vector<NodeId> closed_;    // indices of opened_
};

}  // namespace

TreeLayout TreeLayout::from_lcp(std::vector<std::int32_t> rows, std::vector<std::int32_t> lcp) {
  BLENDSERVE_ASSERT(rows.size() == lcp.size() && (lcp.empty() || lcp.front() == 0));
  TreeLayout layout;
  layout.rows = std::move(rows);
  layout.lcp = std::move(lcp);
  LayoutBuilder(layout).build();
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
