#include "plan/outliers.h"

#include <algorithm>
#include <numeric>

#include "base/huge_pages.h"
#include "plan/density_order.h"

namespace blendserve {
namespace {

// What the children of the effective root cover, along the job's work from 0 to 1 in leaf order.
struct Interval {
  double begin = 0;
  double end = 0;

  double distance(double place) const { return std::max({0.0, begin - place, place - end}); }
};

std::vector<std::uint32_t> leaves_by_density(const AnnotatedTree& tree) {
  std::vector<std::uint32_t> leaves(tree.shapes.size());
  std::iota(leaves.begin(), leaves.end(), 0U);
  DensityOrder().sort(leaves, [&](std::uint32_t leaf) { return tree.leaf(static_cast<std::int32_t>(leaf)).density(); });
  return leaves;
}

// The interval of every child of the effective root, and which of them each leaf lies in.
struct Trees {
  std::vector<Interval> intervals;
  std::vector<std::int32_t> of_leaf;
};

Trees trees_of(const AnnotatedTree& tree, double total_work, std::int32_t root_depth) {
  Trees trees;
  reserve_huge(trees.of_leaf, tree.shapes.size());
  double done = 0;
  for (std::int32_t leaf = 0; leaf < tree.layout.num_leaves(); ++leaf) {
    if (leaf == 0 || tree.layout.lcp[static_cast<std::size_t>(leaf)] <= root_depth)
      trees.intervals.push_back({done / total_work, 0});
    done += tree.leaf(leaf).total();
    trees.intervals.back().end = done / total_work;
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

std::vector<Outlier> find_outliers(const AnnotatedTree& tree, double tolerance) {
  std::vector<Outlier> outliers;
  double total_work = 0;
  for (std::int32_t leaf = 0; leaf < tree.layout.num_leaves(); ++leaf) total_work += tree.leaf(leaf).total();
  if (!(total_work > 0)) return outliers;
  const NodeId root = effective_root(tree.layout);
  const Trees trees = trees_of(tree, total_work, tree.layout.node(root).depth);
  double done = 0;
  for (const std::uint32_t leaf : leaves_by_density(tree)) {
    const double work = tree.leaf(static_cast<std::int32_t>(leaf)).total();
    const double place = (done + work / 2) / total_work;
    done += work;
    const NodeId parent = tree.layout.leaf_parents[leaf];
    if (parent == root) continue;
    const double distance = trees.intervals[static_cast<std::size_t>(trees.of_leaf[leaf])].distance(place);
    if (distance <= tolerance) continue;
    const auto band = static_cast<std::int32_t>(place * kNumBands);
    outliers.push_back({.leaf = static_cast<std::int32_t>(leaf),
                        .parent = parent,
                        .band = std::min(band, kNumBands - 1),
                        .benefit = static_cast<float>(work * distance)});
  }
  return outliers;
}

}  // namespace blendserve
