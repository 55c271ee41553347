#include "plan/layer_sort.h"

#include <utility>
#include <vector>

#include "base/huge_pages.h"
#include "plan/density_order.h"

namespace blendserve {
namespace {

// The children of all nodes, each node's together: leaf i is item i, node v is item num_leaves + v.
class Children {
 public:
  explicit Children(const TreeLayout& layout)
      : num_leaves_(static_cast<std::uint32_t>(layout.num_leaves())), begins_(layout.nodes.size() + 1, 0) {
    for (const NodeId parent : layout.leaf_parents) ++count_of(parent);
    for (const TreeNode& node : layout.nodes) {
      if (node.parent != kNoNode) ++count_of(node.parent);
    }
    for (std::size_t id = 1; id < begins_.size(); ++id) begins_[id] += begins_[id - 1];
    items_.resize(begins_.back());
    std::vector<std::uint32_t> next(begins_.begin(), begins_.end() - 1);
    for (std::uint32_t leaf = 0; leaf < num_leaves_; ++leaf) {
      items_[next[static_cast<std::size_t>(layout.leaf_parents[leaf])]++] = leaf;
    }
    for (std::uint32_t id = 0; id + 1 < layout.nodes.size(); ++id) {
      items_[next[static_cast<std::size_t>(layout.nodes[id].parent)]++] = num_leaves_ + id;
    }
  }

  std::span<std::uint32_t> of(NodeId id) {
    const auto index = static_cast<std::size_t>(id);
    return std::span(items_).subspan(begins_[index], begins_[index + 1] - begins_[index]);
  }
  bool is_leaf(std::uint32_t item) const { return item < num_leaves_; }
  NodeId node(std::uint32_t item) const { return static_cast<NodeId>(item - num_leaves_); }

 private:
  std::uint32_t& count_of(NodeId parent) { return begins_[static_cast<std::size_t>(parent) + 1]; }

  std::uint32_t num_leaves_;
  std::vector<std::uint32_t> begins_;
  std::vector<std::uint32_t> items_;
};

// Writes the leaves down anew, depth first through the children as they are ordered now.
class LeafWriter {
 public:
  LeafWriter(AnnotatedTree& tree, Children& children) : tree_(tree), layout_(tree.layout), children_(children) {
    const std::size_t num_leaves = layout_.rows.size();
    reserve_huge(rows_, num_leaves);
    reserve_huge(lcp_, num_leaves);
    reserve_huge(leaf_parents_, num_leaves);
    reserve_huge(costs_, num_leaves);
    reserve_huge(shapes_, num_leaves);
  }

  void write() {
    enter(layout_.root());
    while (!path_.empty()) {
      auto& [id, left] = path_.back();
      if (left.empty()) {
        leave(id);
        continue;
      }
      const std::uint32_t item = left.front();
      left = left.subspan(1);
      if (children_.is_leaf(item)) {
        append(item, id);
      } else {
        enter(children_.node(item));
      }
    }
    layout_.rows = std::move(rows_);
    layout_.lcp = std::move(lcp_);
    layout_.leaf_parents = std::move(leaf_parents_);
    tree_.leaves = std::move(costs_);
    tree_.shapes = std::move(shapes_);
  }

 private:
  struct Step {
    NodeId id;
    std::span<const std::uint32_t> left;  // children still to write
  };

  std::int32_t position() const { return static_cast<std::int32_t>(rows_.size()); }
  TreeNode& node(NodeId id) { return layout_.nodes[static_cast<std::size_t>(id)]; }

  void enter(NodeId id) {
    node(id).begin = position();
    path_.push_back({id, children_.of(id)});
  }

  void leave(NodeId id) {
    node(id).end = position();
    path_.pop_back();
    if (!path_.empty()) next_lcp_ = node(path_.back().id).depth;
  }

  void append(std::uint32_t leaf, NodeId parent) {
    rows_.push_back(layout_.rows[leaf]);
    lcp_.push_back(next_lcp_);
    leaf_parents_.push_back(parent);
    costs_.push_back(tree_.leaves[leaf]);
    shapes_.push_back(tree_.shapes[leaf]);
    next_lcp_ = node(parent).depth;
  }

  AnnotatedTree& tree_;
  TreeLayout& layout_;
  Children& children_;
  std::vector<Step> path_;
  std::vector<std::int32_t> rows_;
  std::vector<std::int32_t> lcp_;
  std::vector<NodeId> leaf_parents_;
  std::vector<Cost> costs_;
  std::vector<RequestShape> shapes_;
  std::int32_t next_lcp_ = 0;  // what the next leaf shares with the last one: the depth of the node where they part
};

}  // namespace

void layer_sort(AnnotatedTree& tree) {
  Children children(tree.layout);
  DensityOrder order;
  const auto density = [&](std::uint32_t item) {
    return children.is_leaf(item) ? tree.leaves[item].density()
                                  : tree.subtrees[static_cast<std::size_t>(children.node(item))].density();
  };
  for (NodeId id = 0; id <= tree.layout.root(); ++id) order.sort(children.of(id), density);
  LeafWriter(tree, children).write();
}

}  // namespace blendserve
