#include "plan/conditional_split.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/error.h"
#include "plan/layer_sort.h"
#include "plan/outliers.h"
#include "plan/regroup.h"
#include "tree/sort_keys.h"

namespace blendserve {
namespace {

constexpr double kNegligible = 1e-3;  // of the job's work

// Whether one resource bounds all requests but a negligible part: copies would cost, and no order could blend.
bool is_one_sided(const AnnotatedTree& tree) {
  double compute_bound = 0;
  double memory_bound = 0;
  for (std::int32_t leaf = 0; leaf < tree.layout.num_leaves(); ++leaf) {
    const Cost cost = tree.leaf(leaf);
    (cost.density() > 1 ? compute_bound : memory_bound) += cost.total();
  }
  return std::min(compute_bound, memory_bound) <= kNegligible * (compute_bound + memory_bound);
}

double total_benefit(const std::vector<Outlier>& outliers) {
  double sum = 0;
  for (const Outlier& outlier : outliers) sum += static_cast<double>(outlier.benefit);
  return sum;
}

// The outliers below one node that belong to one band: cut out together or not at all.
struct Unit {
  NodeId parent = kNoNode;
  std::int32_t band = 0;
  std::size_t begin = 0;  // of the outliers in order of parent and band
  std::size_t end = 0;
  double benefit_per_token = 0;
};

// Orders outliers, which come by band, by parent too.
void sort_by_parent(std::vector<Outlier>& outliers) {
  std::vector<std::uint64_t> keys(outliers.size());
  std::vector<std::uint64_t> scratch(outliers.size());
  for (std::size_t i = 0; i < keys.size(); ++i) keys[i] = static_cast<std::uint64_t>(outliers[i].parent) << 32 | i;
  sort_keys(keys, scratch, 32);
  std::vector<Outlier> sorted;
  sorted.reserve(outliers.size());
  for (const std::uint64_t key : keys) sorted.push_back(outliers[key & UINT32_MAX]);
  outliers = std::move(sorted);
}

// `outliers` come by parent and band. The best units first.
std::vector<Unit> units_of(const TreeLayout& layout, const std::vector<Outlier>& outliers, std::int32_t root_depth) {
  std::vector<Unit> units;
  for (std::size_t begin = 0; begin < outliers.size();) {
    Unit unit{outliers[begin].parent, outliers[begin].band, begin, begin, 0};
    double benefit = 0;
    for (; unit.end < outliers.size(); ++unit.end) {
      const Outlier& next = outliers[unit.end];
      if (next.parent != unit.parent || next.band != unit.band) break;
      benefit += static_cast<double>(next.benefit);
    }
    unit.benefit_per_token = benefit / (layout.node(unit.parent).depth - root_depth);
    units.push_back(unit);
    begin = unit.end;
  }
  std::ranges::stable_sort(units, std::ranges::greater{}, &Unit::benefit_per_token);
  return units;
}

// Which bands every node's segment has been copied to, and what that costs.
class Copies {
 public:
  Copies(const TreeLayout& layout, NodeId root) : layout_(layout), root_(root), bands_(layout.nodes.size(), 0) {}

  // Tokens to copy so that `node` has a copy in `band`: the segments above it that have none yet.
  std::int64_t missing_tokens(NodeId node, std::int32_t band) const {
    const NodeId copied = first_copied(node, band);
    return std::int64_t{layout_.node(node).depth} - layout_.node(copied).depth;
  }
  void add(NodeId node, std::int32_t band) {
    const NodeId copied = first_copied(node, band);
    for (NodeId id = node; id != copied; id = layout_.node(id).parent)
      bands_[static_cast<std::size_t>(id)] |= 1U << band;
  }

 private:
  static_assert(kNumBands <= 32);

  NodeId first_copied(NodeId id, std::int32_t band) const {
    while (id != root_ && (bands_[static_cast<std::size_t>(id)] >> band & 1U) == 0) id = layout_.node(id).parent;
    return id;
  }

  const TreeLayout& layout_;
  NodeId root_;
  std::vector<std::uint32_t> bands_;
};

std::int64_t num_shared_tokens(const TreeLayout& layout) {
  std::int64_t count = 0;
  for (const std::int32_t lcp : layout.lcp) count += lcp;
  return count;
}

std::int64_t num_unique_tokens(const AnnotatedTree& tree) {
  std::int64_t count = 0;
  for (std::size_t leaf = 0; leaf < tree.shapes.size(); ++leaf) {
    count += tree.shapes[leaf].prompt_len - tree.layout.lcp[leaf];
  }
  return count;
}

class Splitter {
 public:
  Splitter(AnnotatedTree& tree, const SplitConfig& config)
      : tree_(tree),
        config_(config),
        num_shared_before_(num_shared_tokens(tree.layout)),
        budget_(static_cast<std::int64_t>(config.budget *
                                          static_cast<double>(std::min(num_shared_before_, num_unique_tokens(tree))))),
        was_split_(tree.layout.rows.size(), false) {}

  SplitReport run() {
    if (is_one_sided(tree_)) {
      report_.stop = SplitStop::kOneSided;
      return report_;
    }
    report_.stop = SplitStop::kRounds;
    while (report_.num_rounds < config_.max_rounds && run_round()) {
    }
    return report_;
  }

 private:
  // Whether there may be more to do.
  bool run_round() {
    auto outliers = find_outliers(tree_, config_.tolerance);
    if (total_benefit(outliers) <= kNegligible * tree_.total().total()) return stop(SplitStop::kMonotone);
    std::erase_if(outliers, [this](const Outlier& outlier) { return was_split(outlier); });
    const auto bands = choose(std::move(outliers));
    if (bands.empty()) return stop(SplitStop::kBudget);
    ++report_.num_rounds;
    const TreeLayout& layout = tree_.layout;
    tree_ = regroup(tree_, bands, layout.node(effective_root(layout)).depth);
    layer_sort(tree_);
    report_.num_copied_tokens = num_shared_before_ - num_shared_tokens(tree_.layout);
    return true;
  }

  bool stop(SplitStop reason) {
    report_.stop = reason;
    return false;
  }

  bool was_split(const Outlier& outlier) const {
    return was_split_[static_cast<std::size_t>(tree_.layout.rows[static_cast<std::size_t>(outlier.leaf)])];
  }

  // The band every leaf goes to, kStays for most; nothing when no unit is affordable.
  std::vector<std::int8_t> choose(std::vector<Outlier> outliers) {
    sort_by_parent(outliers);
    const TreeLayout& layout = tree_.layout;
    const NodeId root = effective_root(layout);
    Copies copies(layout, root);
    std::int64_t left = budget_ - report_.num_copied_tokens;
    std::vector<std::int8_t> bands;
    for (const Unit& unit : units_of(layout, outliers, layout.node(root).depth)) {
      const std::int64_t cost = copies.missing_tokens(unit.parent, unit.band);
      if (cost > left) continue;
      left -= cost;
      copies.add(unit.parent, unit.band);
      if (bands.empty()) bands.assign(layout.rows.size(), kStays);
      for (std::size_t i = unit.begin; i < unit.end; ++i) {
        const auto leaf = static_cast<std::size_t>(outliers[i].leaf);
        bands[leaf] = static_cast<std::int8_t>(unit.band);
        was_split_[static_cast<std::size_t>(layout.rows[leaf])] = true;
      }
      report_.num_splits += static_cast<std::int64_t>(unit.end - unit.begin);
    }
    return bands;
  }

  AnnotatedTree& tree_;
  const SplitConfig& config_;
  std::int64_t num_shared_before_;
  std::int64_t budget_;          // tokens
  std::vector<bool> was_split_;  // by row
  SplitReport report_;
};

}  // namespace

void SplitConfig::validate() const {
  if (!(budget >= 0.0 && budget <= 1.0)) {
    throw InvalidInput("split_budget is " + std::to_string(budget) +
                       "; it must be from 0 (keep all sharing) to 1: the share of it that may be given up");
  }
}

SplitReport conditional_split(AnnotatedTree& tree, const SplitConfig& config) {
  config.validate();
  return Splitter(tree, config).run();
}

}  // namespace blendserve
