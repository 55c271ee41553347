#include "plan/shards.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "base/error.h"

namespace blendserve {
namespace {

// Leaves [begin, end).
struct Range {
  std::int32_t begin = 0;
  std::int32_t end = 0;
};

// The two runs of leaves of one shard, of which either may be empty.
struct Runs {
  Range left;
  Range right;
};

class Cutter {
 public:
  explicit Cutter(const AnnotatedTree& tree) : tree_(tree), layout_(tree.layout), left_of_(1) {
    left_of_.reserve(layout_.rows.size() + 1);
    for (std::size_t leaf = 0; leaf < layout_.rows.size(); ++leaf) {
      left_of_.push_back(left_of_.back());
      left_of_.back() += tree.costs.leaf(tree.shapes[leaf], layout_.lcp[leaf]);
    }
  }

  // What the cuts will repeat is known only after them: a cut says it to the next one, and the best of a few is taken.
  std::vector<Shard> cut(std::int32_t num_shards) const {
    std::vector<Runs> best;
    Cost repeated;  // by every cut
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      std::vector<Runs> runs = cut(num_shards, repeated);
      if (best.empty() || imbalance(runs) < imbalance(best)) best = runs;
      if (num_shards == 1) break;
      const Cost sum = total(runs);
      const Cost once = cost(Range{0, layout_.num_leaves()});
      repeated = {(sum.compute_s - once.compute_s) / (num_shards - 1),
                  (sum.memory_s - once.memory_s) / (num_shards - 1)};
    }
    std::vector<Shard> shards;
    for (const Runs& runs : best) shards.push_back(shard(runs));
    return shards;
  }

 private:
  std::vector<Runs> cut(std::int32_t num_shards, const Cost& repeated) const {
    std::vector<Runs> shards;
    Range left{0, layout_.num_leaves()};
    for (std::int32_t remaining = num_shards; remaining > 1; --remaining) {
      const Cost all = cost(left);
      const double num_cuts = remaining - 1;
      const Cost target{(all.compute_s + num_cuts * repeated.compute_s) / remaining,
                        (all.memory_s + num_cuts * repeated.memory_s) / remaining};
      // Every shard to come needs a leaf.
      const std::int32_t max_leaves = left.end - left.begin - (remaining - 1);
      const Range inner = find_inner(left, target, max_leaves);
      shards.push_back({{left.begin, inner.begin}, {inner.end, left.end}});
      left = inner;
    }
    shards.push_back({left, {left.end, left.end}});
    return shards;
  }

  // What computing the run alone costs: its first leaf's whole prompt. Leaves out what cascade attention reads for
  // several requests at once.
  Cost cost(Range run) const {
    if (run.begin == run.end) return {};
    const Cost& before = left_of_[static_cast<std::size_t>(run.begin)];
    const Cost& upto = left_of_[static_cast<std::size_t>(run.end)];
    Cost sum{upto.compute_s - before.compute_s, upto.memory_s - before.memory_s};
    sum += tree_.costs.segment(0, layout_.lcp[static_cast<std::size_t>(run.begin)], 0);
    return sum;
  }

  Cost cost(const Runs& runs) const {
    Cost sum = cost(runs.left);
    sum += cost(runs.right);
    return sum;
  }

  Cost outer_cost(Range left, Range inner) const {
    return cost(Runs{{left.begin, inner.begin}, {inner.end, left.end}});
  }

  Cost total(const std::vector<Runs>& shards) const {
    Cost sum;
    for (const Runs& runs : shards) sum += cost(runs);
    return sum;
  }

  // The largest deviation of a shard.
  double imbalance(const std::vector<Runs>& shards) const {
    const auto num_shards = static_cast<double>(shards.size());
    const Cost sum = total(shards);
    const Cost mean{sum.compute_s / num_shards, sum.memory_s / num_shards};
    double worst = 0;
    for (const Runs& runs : shards) worst = std::max(worst, deviation(cost(runs), mean));
    return worst;
  }

  // What remains when a shard near `target` is taken off both ends. With more from the dense left and less from the
  // right the shard gets denser at equal work, but not evenly: the tree's order is by density only from sibling to
  // sibling. So a coarse search over the left end comes before a fine one, and at each place the right end is searched
  // by work.
  Range find_inner(Range left, const Cost& target, std::int32_t max_leaves) const {
    Range best = inner_with(left, 0, target, max_leaves);
    double least = deviation(outer_cost(left, best), target);
    const auto try_with = [&](std::int64_t num_left) {
      if (num_left < 0 || num_left > max_leaves) return;
      const Range candidate = inner_with(left, static_cast<std::int32_t>(num_left), target, max_leaves);
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
  Range inner_with(Range left, std::int32_t num_left, const Cost& target, std::int32_t max_leaves) const {
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
    const bool fewer_is_nearer = low > (num_left == 0 ? 1 : 0) &&
                                 std::abs(work(low - 1) - target.total()) <= std::abs(work(low) - target.total());
    return {begin, left.end - (fewer_is_nearer ? low - 1 : low)};
  }

  // Of the resource that is further from its target, as a share of that.
  static double deviation(const Cost& taken, const Cost& target) {
    const auto share = [](double value, double wanted) { return wanted > 0 ? std::abs(value / wanted - 1) : value; };
    return std::max(share(taken.compute_s, target.compute_s), share(taken.memory_s, target.memory_s));
  }

  Shard shard(const Runs& runs) const {
    Shard shard;
    for (const Range& run : {runs.left, runs.right}) {
      if (run.begin == run.end) continue;
      shard.cost += tree_of(run).total();
      shard.num_lost_tokens += layout_.lcp[static_cast<std::size_t>(run.begin)];
      for (std::int32_t leaf = run.begin; leaf < run.end; ++leaf) {
        shard.rows.push_back(layout_.rows[static_cast<std::size_t>(leaf)]);
        shard.num_prompt_tokens += tree_.shapes[static_cast<std::size_t>(leaf)].prompt_len;
      }
    }
    return shard;
  }

  // The run as a job of its own.
  AnnotatedTree tree_of(Range run) const {
    const auto leaves_of = [&](const auto& by_leaf) {
      return std::vector(by_leaf.begin() + run.begin, by_leaf.begin() + run.end);
    };
    std::vector<std::int32_t> lcp = leaves_of(layout_.lcp);
    lcp.front() = 0;
    RequestShapes shapes;
    shapes.reserve(lcp.size());
    for (std::int32_t leaf = run.begin; leaf < run.end; ++leaf) {
      shapes.push_back(tree_.shapes[static_cast<std::size_t>(leaf)]);
    }
    return annotate(TreeLayout::from_lcp(leaves_of(layout_.rows), std::move(lcp)), std::move(shapes), tree_.costs);
  }

  static constexpr int kAttempts = 4;
  static constexpr std::int32_t kCoarseSteps = 256;
  static constexpr std::int64_t kNeighbours = 8;

  const AnnotatedTree& tree_;
  const TreeLayout& layout_;
  std::vector<Cost> left_of_;  // the leaves before each one, every segment computed once
};

}  // namespace

std::vector<Shard> cut_shards(const AnnotatedTree& tree, std::int32_t num_shards) {
  const std::int32_t num_leaves = tree.layout.num_leaves();
  if (num_shards < 1 || num_shards > num_leaves) {
    throw InvalidInput("num_shards is " + std::to_string(num_shards) +
                       "; it must be from 1 to the number of requests (" + std::to_string(num_leaves) + ")");
  }
  return Cutter(tree).cut(num_shards);
}

}  // namespace blendserve
