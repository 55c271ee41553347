#include "estimate/choose_sample.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "base/error.h"
#include "base/rng.h"
#include "estimate/evidence.h"
#include "estimate/memory_spread.h"
#include "estimate/pivotal_pass.h"
#include "estimate/strata.h"

namespace blendserve {
namespace {

constexpr double kMinSampleLimit = 1000.0;
// Share of the rate that is spread evenly whatever the method: it bounds the weights (Hesterberg 1995).
constexpr double kEvenShare = 0.25;

void check(const PrefixTree& tree, const SampleConfig& config) {
  if (!(config.rate >= 1e-6 && config.rate <= 1.0)) {
    throw InvalidInput("rate is " + std::to_string(config.rate) + "; it must be from 1e-6 to 1");
  }
  if (!(config.prior_mean_len > 0.0) || std::isinf(config.prior_mean_len)) {
    throw InvalidInput("prior_output_len is " + std::to_string(config.prior_mean_len) +
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

constexpr std::int32_t kLargeStratum = 64;  // requests
constexpr double kMaxLeastSamples = 32.0;

// Samples that each large stratum gets at least, when they share `room` beyond their shares of the rate.
double least_samples(const Strata& strata, double room) {
  const auto num_large = std::ranges::count_if(strata.sizes, [](std::int32_t size) { return size >= kLargeStratum; });
  return std::clamp(room / static_cast<double>(std::max<std::ptrdiff_t>(num_large, 1)), 1.0, kMaxLeastSamples);
}

// The passes by stratum; all strata beyond the limit share the last one.
struct Passes {
  std::vector<PivotalPass> passes;
  std::vector<double> factors;  // by pass, on probabilities: above 1 where there would be less than one sample
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
  plan.factors.assign(plan.passes.size(), 1.0);
  plan.of_stratum.assign(totals.size(), strata.size());
  const double least = least_samples(strata, (limit - num_samples) / 2.0);
  for (const std::int32_t stratum : strata_by_rank(strata)) {
    const auto index = static_cast<std::size_t>(stratum);
    const double raised = std::max(totals[index], strata.sizes[index] >= kLargeStratum ? least : 1.0);
    if (num_samples + raised - totals[index] > limit) continue;
    num_samples += raised - totals[index];
    plan.of_stratum[index] = stratum;
    plan.factors[index] = raised / totals[index];
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

  const auto pass_of = [&](std::size_t leaf) {
    return static_cast<std::size_t>(plan.of_stratum[static_cast<std::size_t>(strata.leaf_strata[leaf])]);
  };
  const auto probability_of = [&](std::size_t leaf) {
    return std::min(1.0, plan.factors[pass_of(leaf)] * probabilities[leaf]);
  };
  struct Taken {
    std::int32_t row;
    double weight;
  };
  std::vector<Taken> taken;
  const auto take = [&](std::int32_t leaf) {
    if (leaf == PivotalPass::kNoLeaf) return;
    const auto index = static_cast<std::size_t>(leaf);
    taken.push_back({rows[index], 1.0 / probability_of(index)});
  };
  for (std::size_t leaf = 0; leaf < rows.size(); ++leaf) {
    PivotalPass& pass = plan.passes[pass_of(leaf)];
    take(pass.duel(static_cast<std::int32_t>(leaf), probability_of(leaf), random_uniform(config.seed, leaf)));
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
