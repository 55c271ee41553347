#include "plan/outliers.h"

#include <algorithm>
#include <numeric>

#include "plan/density_order.h"

namespace blendserve {
namespace {

// What the children of the effective root cover, along the job's work from 0 to 1 in leaf order.
struct Interval {
  double begin = 0;
  double end = 0;

  double distance(double place) const { return std::max({0.0, begin - place, place - end}); }
};

struct LeafCosts {
  std::vector<double> work;  // s, by leaf
  double total_work = 0;
  std::vector<std::uint32_t> by_density;
};

LeafCosts leaf_costs(const TreeLayout& layout, const RequestCosts& costs) {
  LeafCosts leaves;
  leaves.work.reserve(layout.rows.size());
  std::vector<double> densities;
  densities.reserve(layout.rows.size());
  for (std::int32_t leaf = 0; leaf < layout.num_leaves(); ++leaf) {
    const Cost cost = costs.leaf(layout.rows[static_cast<std::size_t>(leaf)], layout.leaf_parent_depth(leaf));
    leaves.work.push_back(cost.total());
    densities.push_back(cost.density());
  }
  leaves.total_work = std::accumulate(leaves.work.begin(), leaves.work.end(), 0.0);
  leaves.by_density.resize(layout.rows.size());
  std::iota(leaves.by_density.begin(), leaves.by_density.end(), 0U);
  DensityOrder().sort(leaves.by_density, [&](std::uint32_t leaf) { return densities[leaf]; });
  return leaves;
}

// The interval of every child of the effective root, and which of them each leaf lies in.
struct Trees {
  std::vector<Interval> intervals;
  std::vector<std::int32_t> of_leaf;
};

Trees trees_of(const TreeLayout& layout, const LeafCosts& leaves, std::int32_t root_depth) {
  Trees trees;
  trees.of_leaf.reserve(layout.rows.size());
  double done = 0;
  for (std::size_t leaf = 0; leaf < layout.rows.size(); ++leaf) {
    if (leaf == 0 || layout.lcp[leaf] <= root_depth) trees.intervals.push_back({done / leaves.total_work, 0});
    done += leaves.work[leaf];
    trees.intervals.back().end = done / leaves.total_work;
    trees.of_leaf.push_back(static_cast<std::int32_t>(trees.intervals.size()) - 1);
  }
  return trees;
}

}  // namespace

NodeId effective_root(const TreeLayout& layout) {
  NodeId id = layout.root();
  while (id > 0 && layout.node(id - 1).end - layout.node(id - 1).begin == layout.num_leaves()) --id;
  return id;
}

std::vector<Outlier> find_outliers(const TreeLayout& layout, const RequestCosts& costs, double tolerance) {
  std::vector<Outlier> outliers;
  const NodeId root = effective_root(layout);
  const LeafCosts leaves = leaf_costs(layout, costs);
  if (!(leaves.total_work > 0)) return outliers;
  const Trees trees = trees_of(layout, leaves, layout.node(root).depth);
  double done = 0;
  for (const std::uint32_t leaf : leaves.by_density) {
    const double place = (done + leaves.work[leaf] / 2) / leaves.total_work;
    done += leaves.work[leaf];
    const NodeId parent = layout.leaf_parents[leaf];
    if (parent == root) continue;
    const double distance = trees.intervals[static_cast<std::size_t>(trees.of_leaf[leaf])].distance(place);
    if (distance <= tolerance) continue;
    const auto band = static_cast<std::int32_t>(place * kNumBands);
    outliers.push_back({.leaf = static_cast<std::int32_t>(leaf),
                        .parent = parent,
                        .band = std::min(band, kNumBands - 1),
                        .benefit = static_cast<float>(leaves.work[leaf] * distance)});
  }
  return outliers;
}

}  // namespace blendserve
