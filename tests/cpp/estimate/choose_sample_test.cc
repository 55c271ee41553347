#include "estimate/choose_sample.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>
#include <set>

#include "base/error.h"
#include "estimate/builders.h"
#include "estimate/memory_spread.h"
#include "estimate/strata.h"

using namespace blendserve;

namespace {

std::vector<int> samples_by_stratum(const PrefixTree& tree, const LengthSample& sample) {
  const Strata strata = top_level_strata(tree.layout());
  std::vector<int> counts(static_cast<std::size_t>(strata.size()), 0);
  const std::set<std::int32_t> rows(sample.rows.begin(), sample.rows.end());
  for (std::size_t leaf = 0; leaf < strata.leaf_strata.size(); ++leaf) {
    if (rows.contains(tree.layout().rows[leaf])) ++counts[static_cast<std::size_t>(strata.leaf_strata[leaf])];
  }
  return counts;
}

double total_weight(const LengthSample& sample) {
  return std::accumulate(sample.weights.begin(), sample.weights.end(), 0.0);
}

}  // namespace

TEST_CASE("strata are the children of the root, and the requests that hang on it") {
  const auto tree = tree_of({{1, 1}, {1, 2}, {2, 1}, {2, 2}, {3}, {4}});
  const Strata strata = top_level_strata(tree.layout());
  CHECK(strata.leaf_strata == std::vector<std::int32_t>{2, 2, 1, 1, 0, 0});
  CHECK(strata_by_rank(strata) == std::vector<std::int32_t>{0, 1, 2});
}

TEST_CASE("a template that covers most requests is opened, and the rest keep their strata") {
  Prompts prompts = grouped_prompts({3, 5}, {7, 7});
  prompts.push_back({9, 1});
  prompts.push_back({9, 2});
  const auto tree = tree_of(prompts);
  const Strata strata = top_level_strata(tree.layout());
  std::vector<std::int32_t> sizes;
  for (const std::int32_t stratum : strata_by_rank(strata))
    sizes.push_back(strata.sizes[static_cast<std::size_t>(stratum)]);
  CHECK(sizes == std::vector<std::int32_t>{2, 5, 3});
}

TEST_CASE("the sample has its rate, ascending rows, and weights that sum to the requests") {
  const auto tree = tree_of(grouped_prompts({30'000, 20'000}));
  for (const auto method : {SampleMethod::kUniform, SampleMethod::kMemoryVariance}) {
    const auto sample = choose_sample(tree, {.rate = 0.01, .seed = 3, .method = method});
    CHECK(std::abs(static_cast<double>(sample.rows.size()) - 500.0) <= 2.0);
    CHECK(std::ranges::is_sorted(sample.rows));
    CHECK(std::ranges::adjacent_find(sample.rows) == sample.rows.end());
    CHECK(total_weight(sample) == Approx(50'000.0).epsilon(0.01));
    const auto counts = samples_by_stratum(tree, sample);
    CHECK(std::abs(counts[1] - 200) <= 1);
    CHECK(std::abs(counts[2] - 300) <= 1);
  }
}

TEST_CASE("every top-level subtree has a sample, however small") {
  std::vector<int> sizes(300, 2);
  sizes.push_back(20'000);
  for (const Prompts& prompts : {grouped_prompts(sizes), grouped_prompts(sizes, {5, 6, 7})}) {
    const auto tree = tree_of(prompts);
    for (const auto method : {SampleMethod::kUniform, SampleMethod::kMemoryVariance}) {
      for (std::uint64_t seed = 0; seed < 20; ++seed) {
        const auto sample = choose_sample(tree, {.seed = seed, .method = method});
        const auto counts = samples_by_stratum(tree, sample);
        const Strata strata = top_level_strata(tree.layout());
        for (const std::int32_t stratum : strata_by_rank(strata)) CHECK(counts[static_cast<std::size_t>(stratum)] >= 1);
        CHECK(sample.rows.size() <= 520);
      }
    }
  }
}

TEST_CASE("tens of thousands of accidental subtrees do not blow up the sample") {
  std::vector<int> sizes(30'000, 2);
  sizes.push_back(5'000);
  sizes.push_back(40);
  const auto tree = tree_of(grouped_prompts(sizes));
  const auto sample = choose_sample(tree, {.rate = 0.01, .seed = 1});
  CHECK(sample.rows.size() >= 650);
  CHECK(sample.rows.size() <= 1310);
  const auto counts = samples_by_stratum(tree, sample);
  const Strata strata = top_level_strata(tree.layout());
  for (const std::int32_t stratum : strata_by_rank(strata)) {
    const auto index = static_cast<std::size_t>(stratum);
    if (strata.sizes[index] > 2) CHECK(counts[index] >= 1);
  }
}

TEST_CASE("a sample is a function of its seed") {
  const auto tree = tree_of(random_prompts(1, 5000, 6, 20));
  for (const auto method : {SampleMethod::kUniform, SampleMethod::kMemoryVariance}) {
    const SampleConfig config{.rate = 0.3, .seed = 7, .method = method};
    CHECK(choose_sample(tree, config).rows == choose_sample(tree, config).rows);
    CHECK(choose_sample(tree, config).rows != choose_sample(tree, {.rate = 0.3, .seed = 8, .method = method}).rows);
  }
}

TEST_CASE("a rate of 1 samples everything, and an empty tree has nothing to sample") {
  const auto tree = tree_of(random_prompts(2, 500, 6, 20));
  const auto sample = choose_sample(tree, {.rate = 1.0});
  CHECK(sample.rows.size() == 500);
  CHECK(total_weight(sample) == Approx(500.0));
  CHECK(choose_sample(tree, {.rate = 1.0, .method = SampleMethod::kMemoryVariance}).rows.size() == 500);
  CHECK(choose_sample(tree_of({}), {}).rows.empty());
  CHECK(choose_sample(tree_of({}), {.method = SampleMethod::kMemoryVariance}).rows.empty());
  CHECK(choose_sample(tree_of({{1, 2}}), {}).rows == std::vector<std::int32_t>{0});
}

TEST_CASE("weighted samples are unbiased for both methods") {
  Prompts prompts = grouped_prompts({3, 400, 600});
  for (std::size_t i = 0; i < prompts.size(); i += 3) prompts[i].resize(200, 1);
  const auto tree = tree_of(prompts);
  double truth = 0.0;
  for (std::int32_t row = 0; row < tree.num_requests(); ++row) truth += tree.prompt_len(row);
  for (const auto method : {SampleMethod::kUniform, SampleMethod::kMemoryVariance}) {
    double total = 0.0;
    for (std::uint64_t seed = 0; seed < 2000; ++seed) {
      const auto sample = choose_sample(tree, {.rate = 0.05, .seed = seed, .method = method});
      for (std::size_t i = 0; i < sample.rows.size(); ++i) total += sample.weights[i] * tree.prompt_len(sample.rows[i]);
    }
    CHECK(total / 2000.0 == Approx(truth).epsilon(0.01));
  }
}

TEST_CASE("requests whose memory time varies more are sampled more often") {
  Prompts prompts = grouped_prompts({20'000});
  std::vector<std::int32_t> limits(prompts.size(), 8);
  for (std::size_t i = 0; i < prompts.size(); i += 2) limits[i] = 2000;
  const auto tree = tree_of(prompts);
  const auto sample =
      choose_sample(tree, {.rate = 0.01, .method = SampleMethod::kMemoryVariance, .max_output_lens = limits});
  const auto num_long = std::ranges::count_if(sample.rows, [](std::int32_t row) { return row % 2 == 0; });
  CHECK(num_long == Approx(0.875 * 200.0).margin(3.0));  // 1 - kEvenShare / 2
}

TEST_CASE("the spread of memory time agrees with drawn lengths") {
  CHECK(memory_spread(0, 10.0, 1e6) == Approx(std::sqrt(5.0) * 100.0));  // exponential: p²μ² + 4pμ³ + 5μ⁴
  CHECK(memory_spread(100, 10.0, 1e6) == Approx(std::sqrt(1e6 + 4e5 + 5e4)));
  Draws draws(1);
  double sum = 0.0;
  double sum_squares = 0.0;
  for (int i = 0; i < 200'000; ++i) {
    const double len = std::min(draws.exponential(50.0), 40.0);
    const double mem = 30.0 * len + len * len / 2.0;
    sum += mem;
    sum_squares += mem * mem;
  }
  const double mean = sum / 200'000.0;
  CHECK(memory_spread(30, 50.0, 40.0) == Approx(std::sqrt(sum_squares / 200'000.0 - mean * mean)).epsilon(0.01));
}

TEST_CASE("a sample's configuration is checked") {
  const auto tree = tree_of({{1}, {2}});
  CHECK_THROWS_WITH(choose_sample(tree, {.rate = 0.0}), "rate is 0.000000; it must be from 1e-6 to 1");
  CHECK_THROWS_AS(choose_sample(tree, {.rate = std::nan("")}), InvalidInput);
  CHECK_THROWS_AS(choose_sample(tree, {.prior_mean_len = 0.0}), InvalidInput);
  const std::vector<std::int32_t> limits{5, 0};
  CHECK_THROWS_WITH(choose_sample(tree, {.max_output_lens = limits}),
                    "max_output_lengths[1] is 0; it must be 1 or more");
}
