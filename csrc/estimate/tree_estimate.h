#pragma once

#include <vector>

#include "estimate/evidence.h"
#include "estimate/length_estimate.h"
#include "tree/prefix_tree.h"

namespace blendserve {

inline constexpr LengthEstimate kDefaultPriorLength = LengthEstimate::exactly(256.0);

// An estimate for every request, by row.
//
// A known length is used as given. Any other request has the estimate of the node above it. A node's is the mean of the
// evidence below it, shrunk to the estimate of its parent; the root's is the mean of all evidence:
//
//   estimate(v) = (n_v·mean_v + k·estimate(parent)) / (n_v + k)
//
// n_v is the effective number of known lengths below v, and k tells how much the parent's children have in common
// (credibility.h). Second moments are combined with the same weights. So every estimate lies between the extremes of
// the evidence, unless a cap is lower. Without any evidence it is `prior`.
//
// Linear in leaves and nodes, one thread; needs 56 bytes a node beside the result. Throws InvalidInput
// (KnownLengths::check).
std::vector<LengthEstimate> estimate_lengths(const PrefixTree& tree, const KnownLengths& known,
                                             LengthEstimate prior = kDefaultPriorLength);

// The same, one at a time: holds nothing by leaf. Borrows its arguments.
class LeafEstimates {
 public:
  LeafEstimates(const PrefixTree& tree, const KnownLengths& known, LengthEstimate prior);

  // Of a leaf of the tree's layout.
  LengthEstimate operator()(std::int32_t leaf) const {
    const auto index = static_cast<std::size_t>(leaf);
    const std::int32_t row = layout_.rows[index];
    if (known_.is_known(row)) return LengthEstimate::exactly(known_.length(row));
    return known_.within_cap(
        row, by_node_.empty() ? prior_ : by_node_[static_cast<std::size_t>(layout_.leaf_parents[index])]);
  }

 private:
  const TreeLayout& layout_;
  const KnownLengths& known_;
  LengthEstimate prior_;
  std::vector<LengthEstimate> by_node_;  // empty without evidence
};

}  // namespace blendserve
