#pragma once

#include <cstdint>
#include <vector>

#include "base/ids.h"

namespace blendserve {

using NodeId = std::int32_t;

inline constexpr NodeId kNoNode = -1;

// A shared segment: an inner node of a prefix tree. The leaves below it are [begin, end) of the layout's leaf order.
// Its segment is the tokens [depth of parent, depth) that all prompts below it have in common.
struct TreeNode {
  NodeId parent = kNoNode;
  std::int32_t begin = 0;
  std::int32_t end = 0;
  std::int32_t depth = 0;  // tokens from the root to the end of the segment
};

// One way to lay out a prefix tree from left to right. Every request is a leaf; its own segment is what its prompt has
// beyond its parent, nothing for a duplicate or for a prompt that is a prefix of others. An inner node has at least two
// children, but for the root, which always exists and has depth 0.
//
// The leaf order with the prefix lengths between neighbours determines the rest:
//
//   leaf       0    1    2    3    4
//   lcp        0    3    5    1    0      nodes: [0,3) depth 3, [1,3) depth 5, [0,4) depth 1, [0,5) depth 0
//
// Neighbours may be told to share less than their tokens do: that is how a part of the tree is duplicated elsewhere.
struct TreeLayout {
  std::vector<std::int32_t> rows;    // [n] the request at each leaf, from left to right
  std::vector<std::int32_t> lcp;     // [n] tokens that leaf i shares with leaf i - 1; lcp[0] is 0
  std::vector<TreeNode> nodes;       // children before their parents, the root last
  std::vector<NodeId> leaf_parents;  // [n] the node above each leaf

  // Two passes; needs little beside the arguments and the result.
  static TreeLayout from_lcp(std::vector<std::int32_t> rows, std::vector<std::int32_t> lcp);

  std::int32_t num_leaves() const { return static_cast<std::int32_t>(rows.size()); }
  NodeId root() const { return static_cast<NodeId>(nodes.size()) - 1; }
  const TreeNode& node(NodeId id) const { return nodes[static_cast<std::size_t>(id)]; }
  std::int32_t parent_depth(const TreeNode& child) const {
    return child.parent == kNoNode ? 0 : node(child.parent).depth;
  }
  std::int32_t leaf_parent_depth(std::int32_t leaf) const {
    return node(leaf_parents[static_cast<std::size_t>(leaf)]).depth;
  }

  // Throws InternalError unless nodes and leaf_parents are what rows and lcp determine.
  void verify() const;
};

}  // namespace blendserve
