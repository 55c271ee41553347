#include "estimate/choose_sample.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/rng.h"
#include "estimate/evidence.h"
#include "estimate/memory_spread.h"
#include "estimate/strata.h"

namespace blendserve {
namespace {

constexpr double kMinSampleLimit = 1000.0;
// Share of the rate that is spread evenly whatever the method: it bounds the weights (Hesterberg 1995).
constexpr double kEvenShare = 0.25;

void check(const PrefixTree& tree, const SampleConfig& config) {
  if (!(config.rate > 0.0 && config.rate <= 1.0)) {
    throw InvalidInput("rate is " + std::to_string(config.rate) + "; it must be above 0 and at most 1");
  }
  if (!(config.prior_mean_len > 0.0) || std::isinf(config.prior_mean_len)) {
    throw InvalidInput("prior_mean_len is " + std::to_string(config.prior_mean_len) +
                       "; it must be above 0 and finite");
  }
  check_max_output_lens(config.max_output_lens, tree);
}

// The factor c for which min(1, c · size) sums to `target`, by fixing those that reach 1 until no more do.
double scale_to(const std::vector<double>& sizes, double target) {
  double scale = 0.0;
  while (true) {
    double free_size = 0.0;
    double num_certain = 0.0;
    for (const double size : sizes) {
      if (scale * size >= 1.0) {
        num_certain += 1.0;
      } else {
        free_size += size;
      }
    }
    if (free_size <= 0.0) return scale;
    const double next = (target - num_certain) / free_size;
    if (next <= scale * (1.0 + 1e-12)) return scale;
    scale = next;
  }
}

// By leaf: proportional to the spread of the request's memory time, mixed with an even share.
std::vector<double> memory_probabilities(const PrefixTree& tree, const SampleConfig& config) {
  const auto& rows = tree.layout().rows;
  std::vector<double> sizes;
  sizes.reserve(rows.size());
  for (const std::int32_t row : rows) {
    const double max_len = config.max_output_lens.empty() ? 64.0 * config.prior_mean_len
                                                          : config.max_output_lens[static_cast<std::size_t>(row)];
    sizes.push_back(memory_spread(tree.prompt_len(row), config.prior_mean_len, max_len));
  }
  const auto n = static_cast<double>(sizes.size());
  const double mean = std::accumulate(sizes.begin(), sizes.end(), 0.0) / n;
  for (double& size : sizes) size = mean > 0.0 ? kEvenShare + (1.0 - kEvenShare) * size / mean : 1.0;
  const double scale = scale_to(sizes, config.rate * n);
  for (double& size : sizes) size = std::min(1.0, scale * size);
  return sizes;
}

// One pass of ordered pivotal sampling (Deville 1998; Chauvet 2012) over the leaves of a stratum. Each new leaf duels
// with the one that is carried: one takes as much of both probabilities as it can, up to 1, the other has the rest. It
// keeps every inclusion probability and spreads the sample along the order, as a systematic pass does, but a pattern in
// the order (say four variants of each question) cannot lock in with its step.
class Pass {
 public:
  // On the probabilities of a stratum that would have less than one sample.
  double factor = 1.0;

  // The leaf that is certain to be taken after the duel, or kNoLeaf.
  std::int32_t duel(std::int32_t leaf, double probability, double draw) {
    const double sum = carried_ + probability;
    if (sum < 1.0) {
      if (draw * sum < probability) leaf_ = leaf;
      carried_ = sum;
      return kNoLeaf;
    }
    carried_ = sum - 1.0;
    if (draw * (2.0 - sum) <= 1.0 - probability && leaf_ != kNoLeaf) return std::exchange(leaf_, leaf);
    return leaf;
  }

  // The leaf that is carried at the end is taken with the probability it has; a total of 1 may be rounded down.
  std::int32_t finish(double draw) const { return draw < carried_ + kRounding ? leaf_ : kNoLeaf; }

  static constexpr std::int32_t kNoLeaf = -1;

 private:
  static constexpr double kRounding = 1e-6;

  std::int32_t leaf_ = kNoLeaf;
  double carried_ = 0.0;
};

// The passes by stratum; all strata beyond the limit share the last one.
struct Passes {
  std::vector<Pass> passes;
  std::vector<std::int32_t> of_stratum;
};

Passes plan_passes(const Strata& strata, const std::vector<double>& probabilities, const SampleConfig& config) {
  std::vector<double> totals(static_cast<std::size_t>(strata.size()), 0.0);
  for (std::size_t leaf = 0; leaf < probabilities.size(); ++leaf) {
    totals[static_cast<std::size_t>(strata.leaf_strata[leaf])] += probabilities[leaf];
  }
  double num_samples = config.rate * static_cast<double>(probabilities.size());
  const double limit = std::max(2.0 * num_samples, kMinSampleLimit);
  Passes plan;
  plan.passes.resize(totals.size() + 1);
  plan.of_stratum.assign(totals.size(), strata.size());
  for (const std::int32_t stratum : strata_by_rank(strata)) {
    const auto index = static_cast<std::size_t>(stratum);
    const double raised = std::max(totals[index], 1.0);
    if (num_samples + raised - totals[index] > limit) continue;
    num_samples += raised - totals[index];
    plan.of_stratum[index] = stratum;
    plan.passes[index].factor = raised / totals[index];
  }
  return plan;
}

}  // namespace

LengthSample choose_sample(const PrefixTree& tree, const SampleConfig& config) {
  check(tree, config);
  const auto& rows = tree.layout().rows;
  const Strata strata = top_level_strata(tree.layout());
  const std::vector<double> probabilities = config.method == SampleMethod::kMemoryVariance
                                                ? memory_probabilities(tree, config)
                                                : std::vector<double>(rows.size(), config.rate);
  Passes plan = plan_passes(strata, probabilities, config);

  const auto pass_of = [&](std::size_t leaf) -> Pass& {
    const auto stratum = static_cast<std::size_t>(strata.leaf_strata[leaf]);
    return plan.passes[static_cast<std::size_t>(plan.of_stratum[stratum])];
  };
  const auto probability_of = [&](std::size_t leaf) {
    return std::min(1.0, pass_of(leaf).factor * probabilities[leaf]);
  };
  struct Taken {
    std::int32_t row;
    double weight;
  };
  std::vector<Taken> taken;
  const auto take = [&](std::int32_t leaf) {
    if (leaf == Pass::kNoLeaf) return;
    const auto index = static_cast<std::size_t>(leaf);
    taken.push_back({rows[index], 1.0 / probability_of(index)});
  };
  for (std::size_t leaf = 0; leaf < rows.size(); ++leaf) {
    take(pass_of(leaf).duel(static_cast<std::int32_t>(leaf), probability_of(leaf), random_uniform(config.seed, leaf)));
  }
  for (std::size_t pass = 0; pass < plan.passes.size(); ++pass) {
    take(plan.passes[pass].finish(random_uniform(config.seed, rows.size() + pass)));
  }
  std::ranges::sort(taken, {}, &Taken::row);
  LengthSample sample;
  for (const Taken& each : taken) {
    sample.rows.push_back(each.row);
    sample.weights.push_back(each.weight);
  }
  return sample;
}

}  // namespace blendserve
