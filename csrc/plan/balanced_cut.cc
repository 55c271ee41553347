#include "plan/balanced_cut.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace blendserve {
namespace {

constexpr int kAttempts = 4;
constexpr std::int32_t kCoarseSteps = 256;
constexpr std::int64_t kNeighbours = 8;

// Of the resource that is further from its target, as a share of that.
double deviation(const Cost& taken, const Cost& target) {
  const auto share = [](double value, double wanted) { return wanted > 0 ? std::abs(value / wanted - 1) : value; };
  return std::max(share(taken.compute_s, target.compute_s), share(taken.memory_s, target.memory_s));
}

}  // namespace

Cost total_cost(const std::vector<Cost>& shards) {
  Cost sum;
  for (const Cost& shard : shards) sum += shard;
  return sum;
}

double imbalance(const std::vector<Cost>& shards) {
  const Cost sum = total_cost(shards);
  const auto num_shards = static_cast<double>(shards.size());
  const Cost mean{sum.compute_s / num_shards, sum.memory_s / num_shards};
  double worst = 0;
  for (const Cost& shard : shards) worst = std::max(worst, deviation(shard, mean));
  return worst;
}

BalancedCut::BalancedCut(const AnnotatedTree& tree) : tree_(tree), left_of_(1) {
  const std::size_t num_leaves = tree.layout.rows.size();
  left_of_.reserve(num_leaves + 1);
  for (std::size_t leaf = 0; leaf < num_leaves; ++leaf) {
    left_of_.push_back(left_of_.back());
    left_of_.back() += tree.costs.leaf(tree.shapes[leaf], tree.layout.lcp[leaf]);
  }
}

// What the cuts will repeat is known only after them: a cut says it to the next one, and the best of a few is taken.
std::vector<std::vector<LeafRuns>> BalancedCut::cut(std::int32_t num_shards, std::int32_t num_rounds) const {
  std::vector<std::vector<LeafRuns>> best;
  double least = 0;
  Cost repeated;  // by every cut
  const Cost once = cost(LeafRange{0, tree_.layout.num_leaves()});
  const std::int32_t num_cuts = num_shards * num_rounds - 1;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    std::vector<std::vector<LeafRuns>> shards = cut(num_shards, num_rounds, repeated);
    const std::vector<Cost> its = costs(shards);
    if (best.empty() || imbalance(its) < least) {
      best = std::move(shards);
      least = imbalance(its);
    }
    if (num_cuts == 0) break;
    const Cost sum = total_cost(its);
    repeated = {(sum.compute_s - once.compute_s) / num_cuts, (sum.memory_s - once.memory_s) / num_cuts};
  }
  return best;
}

std::vector<std::vector<LeafRuns>> BalancedCut::cut(std::int32_t num_shards, std::int32_t num_rounds,
                                                    const Cost& repeated) const {
  std::vector<std::vector<LeafRuns>> shards(static_cast<std::size_t>(num_shards));
  std::vector<Cost> taken(shards.size());
  const std::int32_t num_parts = num_shards * num_rounds;
  const auto shard_of = [&](std::int32_t part) {
    const std::int32_t place = part % (2 * num_shards);
    return static_cast<std::size_t>(std::min(place, 2 * num_shards - 1 - place));
  };
  LeafRange left{0, tree_.layout.num_leaves()};
  const auto take = [&](std::int32_t part, const LeafRuns& runs) {
    shards[shard_of(part)].push_back(runs);
    taken[shard_of(part)] += cost(runs);
  };
  const Cost once = cost(left);
  for (std::int32_t part = 0; part + 1 < num_parts; ++part) {
    const std::int32_t num_after = num_parts - part - 1;
    Cost goal = once;  // what the shard is to have then: its share of all, in the end as much as those still to come
    double fraction = (part / num_shards + 1.0) / num_parts;
    if (num_after < num_shards) {
      goal = cost(left);
      for (std::int32_t next = part; next < num_parts; ++next) goal += taken[shard_of(next)];
      fraction = 1.0 / (num_after + 1);
    }
    const std::int32_t num_cuts = num_after < num_shards ? num_after : num_parts - 1;
    goal += {num_cuts * repeated.compute_s, num_cuts * repeated.memory_s};
    const Cost& has = taken[shard_of(part)];
    const Cost target{goal.compute_s * fraction - has.compute_s, goal.memory_s * fraction - has.memory_s};
    // Every part to come needs a leaf.
    const LeafRange inner = find_inner(left, target, left.end - left.begin - num_after);
    take(part, {{left.begin, inner.begin}, {inner.end, left.end}});
    left = inner;
  }
  take(num_parts - 1, {left, {left.end, left.end}});
  return shards;
}

std::vector<Cost> BalancedCut::costs(const std::vector<std::vector<LeafRuns>>& shards) const {
  std::vector<Cost> costs;
  for (const std::vector<LeafRuns>& parts : shards) {
    Cost& sum = costs.emplace_back();
    for (const LeafRuns& part : parts) sum += cost(part);
  }
  return costs;
}

Cost BalancedCut::cost(LeafRange run) const {
  if (run.begin == run.end) return {};
  const Cost& before = left_of_[static_cast<std::size_t>(run.begin)];
  const Cost& upto = left_of_[static_cast<std::size_t>(run.end)];
  Cost sum{upto.compute_s - before.compute_s, upto.memory_s - before.memory_s};
  sum += tree_.costs.segment(0, tree_.layout.lcp[static_cast<std::size_t>(run.begin)], 0);
  return sum;
}

Cost BalancedCut::cost(const LeafRuns& runs) const {
  Cost sum = cost(runs.left);
  sum += cost(runs.right);
  return sum;
}

Cost BalancedCut::outer_cost(LeafRange left, LeafRange inner) const {
  return cost(LeafRuns{{left.begin, inner.begin}, {inner.end, left.end}});
}

// What remains when a part near `target` is taken off both ends. With more from the dense left and less from the
// right the part gets denser at equal work, but not evenly: the tree's order is by density only from sibling to
// sibling. So a coarse search over the left end comes before a fine one, and at each place the right end is searched
// by work.
LeafRange BalancedCut::find_inner(LeafRange left, const Cost& target, std::int32_t max_leaves) const {
  LeafRange best = inner_with(left, 0, target, max_leaves);
  double least = deviation(outer_cost(left, best), target);
  const auto try_with = [&](std::int64_t num_left) {
    if (num_left < 0 || num_left > max_leaves) return;
    const LeafRange candidate = inner_with(left, static_cast<std::int32_t>(num_left), target, max_leaves);
    const double its = deviation(outer_cost(left, candidate), target);
    if (its >= least) return;
    best = candidate;
    least = its;
  };
  const auto best_num_left = [&] { return std::int64_t{best.begin} - left.begin; };
  const std::int64_t coarse = std::max(max_leaves / kCoarseSteps, 1);
  for (std::int64_t num_left = coarse; num_left <= max_leaves; num_left += coarse) try_with(num_left);
  for (std::int64_t step = coarse / 2; step > 0; step /= 2) {
    const std::int64_t middle = best_num_left();
    try_with(middle - step);
    try_with(middle + step);
  }
  const std::int64_t middle = best_num_left();
  for (std::int64_t away = -kNeighbours; away <= kNeighbours; ++away) try_with(middle + away);
  return best;
}

// With `num_left` leaves from the left end, as many from the right as bring the work nearest to the target's.
LeafRange BalancedCut::inner_with(LeafRange left, std::int32_t num_left, const Cost& target,
                                  std::int32_t max_leaves) const {
  const std::int32_t begin = left.begin + num_left;
  std::int32_t low = num_left == 0 ? 1 : 0;
  std::int32_t high = std::max(max_leaves - num_left, low);
  const auto work = [&](std::int32_t num_right) { return outer_cost(left, {begin, left.end - num_right}).total(); };
  while (low < high) {
    const std::int32_t middle = low + (high - low) / 2;
    if (work(middle) < target.total()) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  const bool fewer_is_nearer =
      low > (num_left == 0 ? 1 : 0) && std::abs(work(low - 1) - target.total()) <= std::abs(work(low) - target.total());
  return {begin, left.end - (fewer_is_nearer ? low - 1 : low)};
}

}  // namespace blendserve
