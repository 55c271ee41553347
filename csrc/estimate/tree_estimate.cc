#include "estimate/tree_estimate.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "base/error.h"
#include "estimate/credibility.h"

namespace blendserve {
namespace {

struct NodeEvidence {
  EvidenceSums sums;                                  // of all leaves below
  double strength = SiblingSpread::kDefaultStrength;  // of the pull on its children
};

void check_prior(LengthEstimate prior) {
  if (prior.mean >= 0.0 && prior.mean <= kMaxLength && std::isfinite(prior.second_moment) &&
      prior.second_moment >= prior.mean * prior.mean) {
    return;
  }
  throw InvalidInput("the prior has mean " + std::to_string(prior.mean) + " and second moment " +
                     std::to_string(prior.second_moment) +
                     "; the mean must be 0 to 2147483647, the second moment finite and at least its square");
}

// Nodes come in postorder, so the parents with children behind and children ahead are a stack.
void sum_subtrees(const TreeLayout& layout, std::vector<NodeEvidence>& nodes) {
  struct OpenParent {
    NodeId id;
    SiblingSpread children;
  };
  std::vector<OpenParent> open;
  for (NodeId id = 0; id < layout.root() + 1; ++id) {
    NodeEvidence& node = nodes[static_cast<std::size_t>(id)];
    if (!open.empty() && open.back().id == id) {
      node.strength = open.back().children.strength();
      open.pop_back();
    }
    const NodeId parent = layout.node(id).parent;
    if (parent == kNoNode || node.sums.empty()) continue;
    nodes[static_cast<std::size_t>(parent)].sums.add(node.sums);
    if (open.empty() || open.back().id != parent) open.push_back({parent, {}});
    open.back().children.add(node.sums);
  }
}

LengthEstimate shrink(const EvidenceSums& sums, LengthEstimate towards, double strength) {
  const double credibility = sums.count() / (sums.count() + strength);
  return {std::lerp(towards.mean, sums.mean(), credibility),
          std::lerp(towards.second_moment, sums.second_moment(), credibility)};
}

std::vector<LengthEstimate> estimate_nodes(const TreeLayout& layout, const std::vector<NodeEvidence>& nodes) {
  std::vector<LengthEstimate> estimates(nodes.size());
  const EvidenceSums& all = nodes.back().sums;
  estimates.back() = {all.mean(), all.second_moment()};
  for (NodeId id = layout.root() - 1; id >= 0; --id) {
    const auto parent = static_cast<std::size_t>(layout.node(id).parent);
    const EvidenceSums& sums = nodes[static_cast<std::size_t>(id)].sums;
    estimates[static_cast<std::size_t>(id)] =
        sums.empty() ? estimates[parent] : shrink(sums, estimates[parent], nodes[parent].strength);
  }
  return estimates;
}

// By node, from the evidence below it; there must be some.
std::vector<LengthEstimate> estimates_from_evidence(const TreeLayout& layout, const KnownLengths& known) {
  std::vector<NodeEvidence> nodes(layout.nodes.size());
  double shortest = std::numeric_limits<double>::infinity();
  double longest = 0.0;
  for (std::size_t leaf = 0; leaf < layout.rows.size(); ++leaf) {
    const double weight = known.evidence_weight(layout.rows[leaf]);
    if (weight == 0.0) continue;
    const double len = known.length(layout.rows[leaf]);
    nodes[static_cast<std::size_t>(layout.leaf_parents[leaf])].sums.add(weight, len);
    shortest = std::min(shortest, len);
    longest = std::max(longest, len);
  }
  sum_subtrees(layout, nodes);
  std::vector<LengthEstimate> estimates = estimate_nodes(layout, nodes);
  for (LengthEstimate& each : estimates) {  // rounding must not lead out of the evidence
    each.mean = std::clamp(each.mean, shortest, longest);
    each.second_moment = std::clamp(each.second_moment, each.mean * each.mean, longest * longest);
  }
  return estimates;
}

}  // namespace

LeafEstimates::LeafEstimates(const PrefixTree& tree, const KnownLengths& known, LengthEstimate prior)
    : layout_(tree.layout()), known_(known), prior_(prior) {
  known.check(tree);
  check_prior(prior);
  if (known.has_evidence()) by_node_ = estimates_from_evidence(layout_, known);
}

std::vector<LengthEstimate> estimate_lengths(const PrefixTree& tree, const KnownLengths& known, LengthEstimate prior) {
  const LeafEstimates estimates(tree, known, prior);
  std::vector<LengthEstimate> by_row(tree.layout().rows.size());
  for (std::int32_t leaf = 0; leaf < tree.num_requests(); ++leaf) {
    by_row[static_cast<std::size_t>(tree.layout().rows[static_cast<std::size_t>(leaf)])] = estimates(leaf);
  }
  return by_row;
}

}  // namespace blendserve
