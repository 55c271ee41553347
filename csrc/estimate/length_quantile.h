#pragma once

#include <cstdint>
#include <vector>

#include "estimate/evidence.h"
#include "tree/prefix_tree.h"

namespace blendserve {

struct QuantileConfig {
  double q = 0.9;                  // in [0, 1]
  std::int32_t min_evidence = 20;  // known lengths below a node, for its own quantile; 1 or more
  double prior = 256.0;            // tokens, where nothing is known
};

// By row: the length that a share q of the requests like it does not exceed; a known length is its own quantile.
//
// It is the smallest known length with a share q of the evidence weight at or below it, among the known lengths below
// the deepest ancestor that has min_evidence of them and at most 15/16 of those of the ancestor that would be taken
// otherwise: without that sixteenth a known length would be sorted again for every level of a deep tree, and so it is
// at most 16·ln(m) times for m known lengths. Throws InvalidInput.
std::vector<double> estimate_quantiles(const PrefixTree& tree, const KnownLengths& known, const QuantileConfig& config);

}  // namespace blendserve
