#include "plan/shards.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "base/error.h"

namespace blendserve {
namespace {

// Leaves [begin, end) that are still to be divided, and the two runs that one shard takes from them.
struct Range {
  std::int32_t begin = 0;
  std::int32_t end = 0;
};

class Cutter {
 public:
  Cutter(const AnnotatedTree& tree, const RequestCosts& costs)
      : tree_(tree), layout_(tree.layout), costs_(costs), left_of_(1) {
    left_of_.reserve(layout_.rows.size() + 1);
    for (std::size_t leaf = 0; leaf < layout_.rows.size(); ++leaf) {
      left_of_.push_back(left_of_.back());
      left_of_.back() += costs.leaf(tree.shapes[leaf], layout_.lcp[leaf]);
    }
  }

  std::vector<Shard> cut(std::int32_t num_shards) const {
    std::vector<Shard> shards;
    Range left{0, layout_.num_leaves()};
    for (std::int32_t remaining = num_shards; remaining > 1; --remaining) {
      const Cost all = cost(left);
      const Cost target{all.compute_s / remaining, all.memory_s / remaining};
      // Every shard to come needs a leaf.
      const std::int32_t max_leaves = left.end - left.begin - (remaining - 1);
      const Range inner = find_inner(left, target, max_leaves);
      shards.push_back(shard({left.begin, inner.begin}, {inner.end, left.end}));
      left = inner;
    }
    shards.push_back(shard(left, {left.end, left.end}));
    return shards;
  }

 private:
  // What computing the run alone costs: its first leaf's whole prompt.
  Cost cost(Range run) const {
    if (run.begin == run.end) return {};
    const Cost& before = left_of_[static_cast<std::size_t>(run.begin)];
    const Cost& upto = left_of_[static_cast<std::size_t>(run.end)];
    Cost sum{upto.compute_s - before.compute_s, upto.memory_s - before.memory_s};
    sum += costs_.segment(0, layout_.lcp[static_cast<std::size_t>(run.begin)], 0);
    return sum;
  }

  Cost outer_cost(Range left, Range inner) const {
    Cost sum = cost({left.begin, inner.begin});
    sum += cost({inner.end, left.end});
    return sum;
  }

  // What remains when a shard near `target` is taken off both ends. With more from the dense left and less from the
  // right the shard gets denser at equal work: bisection by density over the left end, by work over the right end.
  Range find_inner(Range left, const Cost& target, std::int32_t max_leaves) const {
    std::int32_t low = 0;
    std::int32_t high = max_leaves;
    while (low < high) {
      const std::int32_t middle = low + (high - low) / 2;
      const Cost taken = outer_cost(left, inner_with(left, middle, target, max_leaves));
      if (taken.compute_s * target.memory_s < taken.memory_s * target.compute_s) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    Range best = inner_with(left, low, target, max_leaves);
    for (std::int32_t num_left = std::max(low - kNeighbours, 0); num_left <= std::min(low + kNeighbours, max_leaves);
         ++num_left) {
      const Range candidate = inner_with(left, num_left, target, max_leaves);
      if (deviation(left, candidate, target) < deviation(left, best, target)) best = candidate;
    }
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

  double deviation(Range left, Range inner, const Cost& target) const {
    const Cost taken = outer_cost(left, inner);
    return std::max(std::abs(taken.compute_s - target.compute_s), std::abs(taken.memory_s - target.memory_s));
  }

  Shard shard(Range from_left, Range from_right) const {
    Shard shard;
    for (const Range& run : {from_left, from_right}) {
      if (run.begin == run.end) continue;
      shard.cost += cost(run);
      shard.num_lost_tokens += layout_.lcp[static_cast<std::size_t>(run.begin)];
      for (std::int32_t leaf = run.begin; leaf < run.end; ++leaf) {
        shard.rows.push_back(layout_.rows[static_cast<std::size_t>(leaf)]);
        shard.num_prompt_tokens += tree_.shapes[static_cast<std::size_t>(leaf)].prompt_len;
      }
    }
    return shard;
  }

  static constexpr std::int32_t kNeighbours = 8;

  const AnnotatedTree& tree_;
  const TreeLayout& layout_;
  const RequestCosts& costs_;
  std::vector<Cost> left_of_;  // the leaves before each one, every segment computed once
};

}  // namespace

std::vector<Shard> cut_shards(const AnnotatedTree& tree, const RequestCosts& costs, std::int32_t num_shards) {
  const std::int32_t num_leaves = tree.layout.num_leaves();
  if (num_shards < 1 || num_shards > num_leaves) {
    throw InvalidInput("num_shards is " + std::to_string(num_shards) +
                       "; it must be from 1 to the number of requests (" + std::to_string(num_leaves) + ")");
  }
  return Cutter(tree, costs).cut(num_shards);
}

}  // namespace blendserve
