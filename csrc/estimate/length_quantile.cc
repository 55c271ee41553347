#include "estimate/length_quantile.h"

#include <algorithm>
#include <string>

#include "base/error.h"

namespace blendserve {
namespace {

struct Evidence {
  std::int32_t leaf;
  double len;
  double weight;
};

void check_config(const QuantileConfig& config) {
  if (!(config.q >= 0.0 && config.q <= 1.0)) {
    throw InvalidInput("q is " + std::to_string(config.q) + "; it must be 0 to 1");
  }
  if (config.min_evidence < 1) {
    throw InvalidInput("min_evidence is " + std::to_string(config.min_evidence) + "; it must be 1 or more");
  }
}

// `scratch` is only there so that its memory is used again.
double quantile_of(std::span<const Evidence> evidence, double q, std::vector<Evidence>& scratch) {
  scratch.assign(evidence.begin(), evidence.end());
  std::ranges::sort(scratch, {}, &Evidence::len);
  double total = 0.0;
  for (const Evidence& each : scratch) total += each.weight;
  double below = 0.0;
  for (const Evidence& each : scratch) {
    below += each.weight;
    if (below >= q * total) return each.len;
  }
  return scratch.back().len;
}

// The evidence under a node: leaves below it are neighbours.
std::span<const Evidence> below(const TreeNode& node, std::span<const Evidence> evidence) {
  const auto begin = std::ranges::lower_bound(evidence, node.begin, {}, &Evidence::leaf);
  const auto end = std::lower_bound(begin, evidence.end(), node.end,
                                    [](const Evidence& each, std::int32_t leaf) { return each.leaf < leaf; });
  return {begin, end};
}

struct NodeQuantile {
  std::size_t num_evidence = 0;
  double len = 0.0;
};

std::vector<NodeQuantile> quantiles_by_node(const TreeLayout& layout, const std::vector<Evidence>& evidence,
                                            const QuantileConfig& config) {
  std::vector<NodeQuantile> quantiles(layout.nodes.size());
  std::vector<Evidence> scratch;
  quantiles.back() = {evidence.size(), evidence.empty() ? config.prior : quantile_of(evidence, config.q, scratch)};
  const auto min_evidence = static_cast<std::size_t>(config.min_evidence);
  for (NodeId id = layout.root() - 1; id >= 0; --id) {
    const TreeNode& node = layout.node(id);
    NodeQuantile& quantile = quantiles[static_cast<std::size_t>(id)];
    quantile = quantiles[static_cast<std::size_t>(node.parent)];
    if (static_cast<std::size_t>(node.end - node.begin) < min_evidence) continue;
    const auto own = below(node, evidence);
    if (own.size() < min_evidence || own.size() * 16 > quantile.num_evidence * 15) continue;
    quantile = {own.size(), quantile_of(own, config.q, scratch)};
  }
  return quantiles;
}

}  // namespace

std::vector<double> estimate_quantiles(const PrefixTree& tree, const KnownLengths& known,
                                       const QuantileConfig& config) {
  known.check(tree);
  check_config(config);
  const TreeLayout& layout = tree.layout();
  std::vector<Evidence> evidence;
  for (std::int32_t leaf = 0; leaf < layout.num_leaves(); ++leaf) {
    const std::int32_t row = layout.rows[static_cast<std::size_t>(leaf)];
    const double weight = known.evidence_weight(row);
    if (weight > 0.0) evidence.push_back({leaf, known.length(row), weight});
  }
  const std::vector<NodeQuantile> by_node = quantiles_by_node(layout, evidence, config);
  std::vector<double> quantiles(layout.rows.size());
  for (std::size_t leaf = 0; leaf < layout.rows.size(); ++leaf) {
    const std::int32_t row = layout.rows[leaf];
    const double len = by_node[static_cast<std::size_t>(layout.leaf_parents[leaf])].len;
    quantiles[static_cast<std::size_t>(row)] =
        known.is_known(row) ? known.length(row) : known.within_cap(row, LengthEstimate::exactly(len)).mean;
  }
  return quantiles;
}

}  // namespace blendserve
