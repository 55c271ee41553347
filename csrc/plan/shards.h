#pragma once

#include <cstdint>
#include <vector>

#include "plan/annotate.h"

namespace blendserve {

// The part of a job that one data-parallel replica runs: two runs of leaves of the planned tree, one from its dense and
// one from its sparse side.
struct Shard {
  std::vector<std::int32_t> rows;  // by leaf
  Cost cost;                       // unique cost; a prefix that was cut through is computed by both sides
  std::int64_t num_prompt_tokens = 0;
  std::int64_t num_lost_tokens = 0;  // of the prefixes that its cuts go through, which the tree computes once
};

// Cuts the layer-sorted `tree` into shards of equal compute and equal memory time, so of equal load and density: each
// takes leaves from the left and from the right end of what is left, where these balance; the last one takes the
// middle. So there are two cuts a shard, and each loses at most one root-to-leaf path. Requests are not divided: a
// shard is off by half of a large one. Throws InvalidInput unless 1 <= num_shards <= leaves.
std::vector<Shard> cut_shards(const AnnotatedTree& tree, std::int32_t num_shards);

}  // namespace blendserve
