#pragma once

#include <cstdint>
#include <vector>

#include "plan/annotate.h"

namespace blendserve {

// Leaves [begin, end).
struct LeafRange {
  std::int32_t begin = 0;
  std::int32_t end = 0;
};

// A run of leaves from the dense and one from the sparse side; either may be empty.
struct LeafRuns {
  LeafRange left;
  LeafRange right;
};

// Cuts a layer-sorted tree into shards of equal compute and equal memory time: part by part, each of leaves from the
// left and from the right end of what is left, where these balance; the last one takes the middle. Borrows the tree.
class BalancedCut {
 public:
  explicit BalancedCut(const AnnotatedTree& tree);

  // The parts of each shard, from the outermost to the innermost. They go to the shards in turn, there and back (0 1 2,
  // 2 1 0, 0 1 2 …), `num_rounds` to each, and a part makes up for what its shard has too much or too little of.
  // 1 <= num_shards * num_rounds <= leaves.
  std::vector<std::vector<LeafRuns>> cut(std::int32_t num_shards, std::int32_t num_rounds) const;

  // What computing the leaves alone costs: the first one's whole prompt. Leaves out what cascade attention reads for
  // several requests at once.
  Cost cost(LeafRange run) const;
  Cost cost(const LeafRuns& runs) const;

 private:
  std::vector<std::vector<LeafRuns>> cut(std::int32_t num_shards, std::int32_t num_rounds, const Cost& repeated) const;
  std::vector<Cost> costs(const std::vector<std::vector<LeafRuns>>& shards) const;
  LeafRange find_inner(LeafRange left, const Cost& target, std::int32_t max_leaves) const;
  LeafRange inner_with(LeafRange left, std::int32_t num_left, const Cost& target, std::int32_t max_leaves) const;
  Cost outer_cost(LeafRange left, LeafRange inner) const;

  const AnnotatedTree& tree_;
  std::vector<Cost> left_of_;  // the leaves before each one, every segment computed once
};

Cost total_cost(const std::vector<Cost>& shards);

// Of the shard and the resource that are furthest from the mean of all shards, as a share of that.
double imbalance(const std::vector<Cost>& shards);

}  // namespace blendserve
