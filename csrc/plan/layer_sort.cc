#include "plan/layer_sort.h"

#include <cstdint>
#include <span>
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
    resize_huge(items_, begins_.back());
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

// Gives nodes and leaves the places that follow from the order of all children. Returns which leaf is now at each
// place.
std::vector<std::uint32_t> place(TreeLayout& layout, Children& children) {
  std::vector<std::uint32_t> sources;
  resize_huge(sources, layout.rows.size());
  for (NodeId id = layout.root(); id >= 0; --id) {
    const TreeNode& parent = layout.node(id);
    std::int32_t position = parent.begin;
    for (const std::uint32_t item : children.of(id)) {
      const auto index = static_cast<std::size_t>(position);
      if (position > parent.begin) layout.lcp[index] = parent.depth;
      if (children.is_leaf(item)) {
        sources[index] = item;
        layout.leaf_parents[index] = id;
        ++position;
        continue;
      }
      TreeNode& child = layout.nodes[static_cast<std::size_t>(children.node(item))];
      child.end = position + child.end - child.begin;
      child.begin = position;
      position = child.end;
    }
  }
  return sources;
}

std::vector<std::uint32_t> place_by_density(AnnotatedTree& tree) {
  Children children(tree.layout);
  DensityOrder order;
  const auto density = [&](std::uint32_t item) {
    return children.is_leaf(item) ? tree.leaf(static_cast<std::int32_t>(item)).density()
                                  : tree.subtrees[static_cast<std::size_t>(children.node(item))].density();
  };
  for (NodeId id = 0; id <= tree.layout.root(); ++id) order.sort(children.of(id), density);
  return place(tree.layout, children);
}

template <typename T>
void reorder(std::vector<T>& values, const std::vector<std::uint32_t>& sources) {
  std::vector<T> reordered;
  reserve_huge(reordered, sources.size());
  for (const std::uint32_t source : sources) reordered.push_back(values[source]);
  values = std::move(reordered);
}

}  // namespace

void layer_sort(AnnotatedTree& tree) {
  const std::vector<std::uint32_t> sources = place_by_density(tree);
  tree.shapes.for_each_column([&](auto& column) { reorder(column, sources); });
  reorder(tree.layout.rows, sources);
}

}  // namespace blendserve
