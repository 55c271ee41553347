#include "plan/shards.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/error.h"
#include "plan/balanced_cut.h"

namespace blendserve {
namespace {

constexpr std::int32_t kMaxRounds = 16;
constexpr std::int32_t kLeavesARound = 1000;  // of one shard, at least
constexpr double kAllowedImbalance = 0.005;   // of more than one round

using Runs = std::vector<LeafRange>;  // of one shard, from left to right

// The leaves of the parts, neighbours joined.
Runs runs_of(const std::vector<LeafRuns>& parts) {
  Runs runs;
  for (const LeafRuns& part : parts) {
    for (const LeafRange run : {part.left, part.right}) {
      if (run.begin < run.end) runs.push_back(run);
    }
  }
  std::ranges::sort(runs, {}, &LeafRange::begin);
  Runs joined;
  for (const LeafRange run : runs) {
    if (!joined.empty() && joined.back().end == run.begin) {
      joined.back().end = run.end;
    } else {
      joined.push_back(run);
    }
  }
  return joined;
}

std::vector<Runs> cut_in_rounds(const BalancedCut& cut, std::int32_t num_shards, std::int32_t num_rounds) {
  std::vector<Runs> shards;
  for (const std::vector<LeafRuns>& parts : cut.cut(num_shards, num_rounds)) shards.push_back(runs_of(parts));
  return shards;
}

double imbalance_of(const std::vector<Runs>& shards, const BalancedCut& cut) {
  std::vector<Cost> costs;
  for (const Runs& runs : shards) {
    Cost& sum = costs.emplace_back();
    for (const LeafRange run : runs) sum += cut.cost(run);
  }
  return imbalance(costs);
}

std::int64_t num_lost_tokens(const std::vector<Runs>& shards, const std::vector<std::int32_t>& lcp) {
  std::int64_t sum = 0;
  for (const Runs& runs : shards) {
    for (const LeafRange run : runs) sum += lcp[static_cast<std::size_t>(run.begin)];
  }
  return sum;
}

// In several rounds every shard gets some of all densities. They must not lose more than one round may.
std::vector<Runs> cut_runs(const AnnotatedTree& tree, std::int32_t num_shards) {
  const BalancedCut cut(tree);
  const std::vector<std::int32_t>& lcp = tree.layout.lcp;
  std::vector<Runs> once = cut_in_rounds(cut, num_shards, 1);
  if (num_shards == 1) return once;
  const double allowed_imbalance = std::max(imbalance_of(once, cut), kAllowedImbalance);
  const std::int64_t allowed_loss = std::int64_t{2} * (num_shards - 1) * *std::ranges::max_element(lcp);
  for (std::int32_t num_rounds = kMaxRounds; num_rounds > 1; num_rounds /= 2) {
    if (num_rounds > tree.layout.num_leaves() / (num_shards * kLeavesARound)) continue;
    std::vector<Runs> shards = cut_in_rounds(cut, num_shards, num_rounds);
    const bool is_allowed =
        num_lost_tokens(shards, lcp) <= allowed_loss && imbalance_of(shards, cut) <= allowed_imbalance;
    if (is_allowed) return shards;
  }
  return once;
}

// The run as a job of its own.
AnnotatedTree tree_of(const AnnotatedTree& tree, LeafRange run) {
  const auto leaves_of = [&](const auto& by_leaf) {
    return std::vector(by_leaf.begin() + run.begin, by_leaf.begin() + run.end);
  };
  std::vector<std::int32_t> lcp = leaves_of(tree.layout.lcp);
  lcp.front() = 0;
  RequestShapes shapes;
  shapes.reserve(lcp.size());
  for (std::int32_t leaf = run.begin; leaf < run.end; ++leaf) {
    shapes.push_back(tree.shapes[static_cast<std::size_t>(leaf)]);
  }
  return annotate(TreeLayout::from_lcp(leaves_of(tree.layout.rows), std::move(lcp)), std::move(shapes), tree.costs);
}

Shard shard_of(const AnnotatedTree& tree, const Runs& runs) {
  Shard shard;
  for (const LeafRange run : runs) {
    shard.cost += tree_of(tree, run).total();
    shard.num_lost_tokens += tree.layout.lcp[static_cast<std::size_t>(run.begin)];
    for (std::int32_t leaf = run.begin; leaf < run.end; ++leaf) {
      shard.rows.push_back(tree.layout.rows[static_cast<std::size_t>(leaf)]);
      shard.num_prompt_tokens += tree.shapes[static_cast<std::size_t>(leaf)].prompt_len;
    }
  }
  return shard;
}

}  // namespace

std::vector<Shard> cut_shards(const AnnotatedTree& tree, std::int32_t num_shards) {
  const std::int32_t num_leaves = tree.layout.num_leaves();
  if (num_shards < 1 || num_shards > num_leaves) {
    throw InvalidInput("num_shards is " + std::to_string(num_shards) +
                       "; it must be from 1 to the number of requests (" + std::to_string(num_leaves) + ")");
  }
  std::vector<Shard> shards;
  for (const Runs& runs : cut_runs(tree, num_shards)) shards.push_back(shard_of(tree, runs));
  return shards;
}

}  // namespace blendserve
