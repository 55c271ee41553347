#include "plan/scan_units.h"

#include <algorithm>
#include <limits>

namespace blendserve {
namespace {

constexpr double kSmallShare = 1.0 / 1024;
constexpr double kSameDensity = 1.1;

struct DensityRange {
  double low = std::numeric_limits<double>::infinity();
  double high = 0;

  void add(double low_density, double high_density) {
    low = std::min(low, low_density);
    high = std::max(high, high_density);
  }
  bool is_uniform() const { return high <= kSameDensity * low; }
};

// Of the leaves below every node.
std::vector<DensityRange> density_ranges(const AnnotatedTree& tree) {
  const TreeLayout& layout = tree.layout;
  std::vector<DensityRange> ranges(layout.nodes.size());
  for (std::int32_t leaf = 0; leaf < layout.num_leaves(); ++leaf) {
    const double density = tree.leaf(leaf).density();
    ranges[static_cast<std::size_t>(layout.leaf_parents[static_cast<std::size_t>(leaf)])].add(density, density);
  }
  for (std::size_t id = 0; id + 1 < layout.nodes.size(); ++id) {
    ranges[static_cast<std::size_t>(layout.nodes[id].parent)].add(ranges[id].low, ranges[id].high);
  }
  return ranges;
}

// The topmost node that is merged and lies at or above each node, or none.
std::vector<NodeId> merged_nodes(const AnnotatedTree& tree, const std::vector<DensityRange>& ranges) {
  const double small = kSmallShare * tree.total().total();
  std::vector<NodeId> merged(tree.subtrees.size(), kNoNode);
  for (std::size_t id = merged.size(); id-- > 0;) {
    const NodeId parent = tree.layout.nodes[id].parent;
    const NodeId above = parent == kNoNode ? kNoNode : merged[static_cast<std::size_t>(parent)];
    const bool needs_no_order = tree.subtrees[id].total() <= small || ranges[id].is_uniform();
    merged[id] = above == kNoNode && needs_no_order ? static_cast<NodeId>(id) : above;
  }
  return merged;
}

}  // namespace

std::vector<ScanUnit> scan_units(const AnnotatedTree& tree) {
  const TreeLayout& layout = tree.layout;
  const auto merged = merged_nodes(tree, density_ranges(tree));
  std::vector<ScanUnit> units;
  for (std::int32_t leaf = 0; leaf < layout.num_leaves();) {
    const auto index = static_cast<std::size_t>(leaf);
    const NodeId parent = layout.leaf_parents[index];
    const NodeId whole = merged[static_cast<std::size_t>(parent)];
    if (whole != kNoNode) {
      units.push_back({leaf, layout.node(whole).end, tree.subtrees[static_cast<std::size_t>(whole)]});
      leaf = layout.node(whole).end;
      continue;
    }
    ScanUnit unit{leaf, leaf, {}};
    const double densest = tree.leaf(leaf).density();
    const auto belongs = [&](std::int32_t next) {
      return next < layout.num_leaves() && layout.leaf_parents[static_cast<std::size_t>(next)] == parent &&
             densest <= kSameDensity * tree.leaf(next).density();
    };
    do {
      unit.cost += tree.leaf(unit.end);
      ++unit.end;
    } while (belongs(unit.end));
    units.push_back(unit);
    leaf = unit.end;
  }
  return units;
}

}  // namespace blendserve
