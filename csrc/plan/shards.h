#pragma once

#include <cstdint>
#include <vector>

#include "plan/annotate.h"

namespace blendserve {

// The part of a job that one data-parallel replica runs: runs of leaves of the planned tree, as many from its dense as
// from its sparse side.
struct Shard {
  std::vector<std::int32_t> rows;  // by leaf
  Cost cost;                       // unique cost; a prefix that was cut through is computed by both sides
  std::int64_t num_prompt_tokens = 0;
  std::int64_t num_lost_tokens = 0;  // of the prefixes that its cuts go through, which the tree computes once
};

// Cuts the layer-sorted `tree` into shards of equal compute and equal memory time, so of equal load and density
// (BalancedCut). Large jobs are cut into several parts a shard, dealt in turn, so that none gets all the extremes.
// No more tokens are lost than two cuts a shard may lose, one root-to-leaf path each. Requests are not divided: a shard
// is off by half of a large one. Throws InvalidInput unless 1 <= num_shards <= leaves.
std::vector<Shard> cut_shards(const AnnotatedTree& tree, std::int32_t num_shards);

}  // namespace blendserve
