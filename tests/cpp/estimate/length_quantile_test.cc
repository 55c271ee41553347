#include "estimate/length_quantile.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "base/error.h"
#include "estimate/builders.h"

using namespace blendserve;

namespace {

std::vector<double> quantiles_of(const PrefixTree& tree, const std::vector<double>& lengths, double q,
                                 std::int32_t min_evidence) {
  return estimate_quantiles(tree, {.lengths = lengths}, {.q = q, .min_evidence = min_evidence});
}

}  // namespace

TEST_CASE("a quantile comes from the deepest ancestor with enough evidence") {
  const auto tree = tree_of(grouped_prompts({5, 4}));
  const std::vector<double> lengths{1.0, 2.0, 3.0, 4.0, kUnknownLength, 100.0, 200.0, kUnknownLength, kUnknownLength};
  CHECK(quantiles_of(tree, lengths, 0.5, 2) == std::vector<double>{1, 2, 3, 4, 2, 100, 200, 100, 100});
  CHECK(quantiles_of(tree, lengths, 1.0, 3) == std::vector<double>{1, 2, 3, 4, 4, 100, 200, 200, 200});
  CHECK(quantiles_of(tree, lengths, 0.0, 3)[8] == 1.0);
}

TEST_CASE("quantiles are weighted, capped, and the prior without evidence") {
  const auto tree = tree_of(grouped_prompts({4}));
  const std::vector<double> lengths{10.0, 20.0, kUnknownLength, kUnknownLength};
  const std::vector<double> weights{3.0, 1.0, 1.0, 1.0};
  const std::vector<std::int32_t> caps{99, 99, 15, 99};
  const KnownLengths known{.lengths = lengths, .weights = weights, .max_output_lens = caps};
  CHECK(estimate_quantiles(tree, known, {.q = 0.75})[3] == 10.0);
  CHECK(estimate_quantiles(tree, known, {.q = 0.76})[3] == 20.0);
  CHECK(estimate_quantiles(tree, known, {.q = 0.76})[2] == 15.0);
  CHECK(quantiles_of(tree, std::vector<double>(4, kUnknownLength), 0.9, 1)[0] == 256.0);
}

TEST_CASE("quantiles are known lengths, grow with q, and split a random tree's evidence") {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    Draws draws(seed);
    const auto tree = tree_of(random_prompts(seed, 200, 6, 3));
    std::vector<double> lengths;
    for (int row = 0; row < 200; ++row) {
      lengths.push_back(draws.uniform() < 0.5 ? std::floor(draws.exponential(100.0)) : kUnknownLength);
    }
    const auto low = quantiles_of(tree, lengths, 0.1, 5);
    const auto high = quantiles_of(tree, lengths, 0.9, 5);
    for (std::size_t row = 0; row < 200; ++row) {
      CHECK(low[row] <= high[row]);
      CHECK(std::ranges::find(lengths, high[row]) != lengths.end());
    }
  }
}

TEST_CASE("a long chain of prefixes takes no quadratic time") {
  Prompts prompts;
  std::vector<double> lengths;
  for (int len = 0; len < 3000; ++len) {
    prompts.emplace_back(static_cast<std::size_t>(len), 1);
    lengths.push_back(len % 2 ? kUnknownLength : len);
  }
  const auto quantiles = quantiles_of(tree_of(prompts), lengths, 0.0, 1);
  CHECK(quantiles[1] == 0.0);
  CHECK(quantiles[2999] >= 2950.0);
}

TEST_CASE("the configuration of a quantile is checked") {
  const auto tree = tree_of({{1}});
  CHECK_THROWS_WITH(quantiles_of(tree, {1.0}, 1.5, 1), "q is 1.500000; it must be 0 to 1");
  CHECK_THROWS_AS(quantiles_of(tree, {1.0}, std::nan(""), 1), InvalidInput);
  CHECK_THROWS_AS(quantiles_of(tree, {1.0}, 0.5, 0), InvalidInput);
}
