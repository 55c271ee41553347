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
std::vector<DensityRange> density_ranges(const TreeLayout& layout, const std::vector<Cost>& leaf_costs) {
  std::vector<DensityRange> ranges(layout.nodes.size());
  for (std::size_t leaf = 0; leaf < leaf_costs.size(); ++leaf) {
    const double density = leaf_costs[leaf].density();
    ranges[static_cast<std::size_t>(layout.leaf_parents[leaf])].add(density, density);
  }
  for (std::size_t id = 0; id + 1 < layout.nodes.size(); ++id) {
    ranges[static_cast<std::size_t>(layout.nodes[id].parent)].add(ranges[id].low, ranges[id].high);
  }
  return ranges;
}

// The topmost node that is merged and lies at or above each node, or none.
std::vector<NodeId> merged_nodes(const TreeLayout& layout, const std::vector<Cost>& subtree,
                                 const std::vector<DensityRange>& ranges) {
  const double small = kSmallShare * subtree.back().total();
  std::vector<NodeId> merged(layout.nodes.size(), kNoNode);
  for (std::size_t id = layout.nodes.size(); id-- > 0;) {
    const NodeId parent = layout.nodes[id].parent;
    const NodeId above = parent == kNoNode ? kNoNode : merged[static_cast<std::size_t>(parent)];
    const bool needs_no_order = subtree[id].total() <= small || ranges[id].is_uniform();
    merged[id] = above == kNoNode && needs_no_order ? static_cast<NodeId>(id) : above;
  }
  return merged;
}

std::vector<Cost> leaf_costs_of(const TreeLayout& layout, const RequestCosts& costs) {
  std::vector<Cost> leaf_costs;
  leaf_costs.reserve(layout.rows.size());
  for (std::int32_t leaf = 0; leaf < layout.num_leaves(); ++leaf) {
    leaf_costs.push_back(costs.leaf(layout.rows[static_cast<std::size_t>(leaf)], layout.leaf_parent_depth(leaf)));
  }
  return leaf_costs;
}

}  // namespace

std::vector<ScanUnit> scan_units(const TreeLayout& layout, const std::vector<Cost>& subtree,
                                 const RequestCosts& costs) {
  const auto leaf_costs = leaf_costs_of(layout, costs);
  const auto merged = merged_nodes(layout, subtree, density_ranges(layout, leaf_costs));
  std::vector<ScanUnit> units;
  for (std::int32_t leaf = 0; leaf < layout.num_leaves();) {
    const auto index = static_cast<std::size_t>(leaf);
    const NodeId parent = layout.leaf_parents[index];
    const NodeId whole = merged[static_cast<std::size_t>(parent)];
    if (whole != kNoNode) {
      units.push_back({leaf, layout.node(whole).end, subtree[static_cast<std::size_t>(whole)]});
      leaf = layout.node(whole).end;
      continue;
    }
    ScanUnit unit{leaf, leaf, {}};
    const double densest = leaf_costs[index].density();
    const auto belongs = [&](std::int32_t next) {
      return next < layout.num_leaves() && layout.leaf_parents[static_cast<std::size_t>(next)] == parent &&
             densest <= kSameDensity * leaf_costs[static_cast<std::size_t>(next)].density();
    };
    do {
      unit.cost += leaf_costs[static_cast<std::size_t>(unit.end)];
      ++unit.end;
    } while (belongs(unit.end));
    units.push_back(unit);
    leaf = unit.end;
  }
  return units;
}

}  // namespace blendserve
