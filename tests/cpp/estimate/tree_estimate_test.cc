#include "estimate/tree_estimate.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "estimate/builders.h"
#include "estimate/credibility.h"

using namespace blendserve;

namespace {

constexpr double kUnknown = kUnknownLength;

std::vector<LengthEstimate> estimates_of(const PrefixTree& tree, const std::vector<double>& lengths) {
  return estimate_lengths(tree, {.lengths = lengths});
}

// The slow, obvious reference: for each request its chain of ancestors, each summed leaf by leaf.
class NaiveEstimate {
 public:
  NaiveEstimate(const TreeLayout& layout, const KnownLengths& known) : layout_(layout), known_(known) {}

  LengthEstimate of_node(NodeId id) const {
    const EvidenceSums sums = sums_below(layout_.node(id));
    if (id == layout_.root()) return {sums.mean(), sums.second_moment()};
    const NodeId parent = layout_.node(id).parent;
    const LengthEstimate above = of_node(parent);
    if (sums.empty()) return above;
    SiblingSpread siblings;
    for (const TreeNode& node : layout_.nodes) {
      if (node.parent == parent && !sums_below(node).empty()) siblings.add(sums_below(node));
    }
    const double n = sums.count();
    const double k = siblings.strength();
    return {(n * sums.mean() + k * above.mean) / (n + k),
            (n * sums.second_moment() + k * above.second_moment) / (n + k)};
  }

 private:
  EvidenceSums sums_below(const TreeNode& node) const {
    EvidenceSums sums;
    for (std::int32_t leaf = node.begin; leaf < node.end; ++leaf) {
      const std::int32_t row = layout_.rows[static_cast<std::size_t>(leaf)];
      if (known_.evidence_weight(row) > 0.0) sums.add(known_.evidence_weight(row), known_.length(row));
    }
    return sums;
  }

  const TreeLayout& layout_;
  const KnownLengths& known_;
};

}  // namespace

TEST_CASE("known lengths are used as given and a subtree's mean is shrunk to its parent's") {
  const auto tree = tree_of({{1, 1}, {1, 2}, {1, 3}, {2, 1}, {2, 2}, {3}});
  const auto estimates = estimates_of(tree, {100.0, 100.0, kUnknown, 10.0, kUnknown, kUnknown});
  CHECK(estimates[0] == LengthEstimate{100.0, 10'000.0});
  CHECK(estimates[3] == LengthEstimate{10.0, 100.0});
  CHECK(estimates[5].mean == Approx(70.0));  // the root: (100 + 100 + 10) / 3
  CHECK(estimates[5].second_moment == Approx(20'100.0 / 3.0));
  CHECK(estimates[2].mean == Approx((2.0 * 100.0 + 8.0 * 70.0) / 10.0));
  CHECK(estimates[2].second_moment == Approx((2.0 * 10'000.0 + 8.0 * 6700.0) / 10.0));
  CHECK(estimates[4].mean == Approx((10.0 + 8.0 * 70.0) / 9.0));
}

TEST_CASE("without evidence every estimate is the prior, and caps hold") {
  const auto tree = tree_of({{1}, {2}, {3}});
  const std::vector<double> lengths{kUnknown, 500.0, kUnknown};
  const std::vector<double> weights{1.0, 0.0, 1.0};
  const std::vector<std::int32_t> caps{1000, 10, 20};
  const auto estimates =
      estimate_lengths(tree, {.lengths = lengths, .weights = weights, .max_output_lens = caps}, {50.0, 4000.0});
  CHECK(estimates[0] == LengthEstimate{50.0, 4000.0});
  CHECK(estimates[1] == LengthEstimate{500.0, 250'000.0});
  CHECK(estimates[2] == LengthEstimate{20.0, 400.0});
  CHECK(estimates_of(tree, {kUnknown, kUnknown, kUnknown})[0] == LengthEstimate{256.0, 65'536.0});
  CHECK(estimates_of(tree_of({}), {}).empty());
}

TEST_CASE("siblings that differ are shrunk less than siblings that do not") {
  const auto spread_of = [](double between) {
    SiblingSpread spread;
    for (int sibling = 0; sibling < 10; ++sibling) {
      EvidenceSums sums;
      for (int i = 0; i < 5; ++i) sums.add(1.0, 1000.0 + between * sibling + 100.0 * i);
      spread.add(sums);
    }
    return spread.strength();
  };
  CHECK(spread_of(0.0) == Approx(80.0));  // ten siblings that have nothing of their own
  CHECK(spread_of(50.0) < 3.0);
  CHECK(spread_of(1000.0) == SiblingSpread::kMinStrength);
}

TEST_CASE("Bühlmann-Straub by hand: two siblings of three") {
  SiblingSpread spread;
  for (const double centre : {10.0, 22.0}) {
    EvidenceSums sums;
    for (const double offset : {-3.0, 0.0, 3.0}) sums.add(1.0, centre + offset);
    spread.add(sums);
  }
  // s² = 36 / 4 = 9; a = (6 · 36 - 9) / (6 - 18 / 6) = 69; averaged with 9 / 8: 35.0625
  CHECK(spread.strength() == Approx(9.0 / 35.0625));
}

TEST_CASE("random trees agree with the slow reference, and stay between the extremes of the evidence") {
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    Draws draws(seed);
    const auto tree = tree_of(random_prompts(seed, 150, seed % 2 ? 3 : 20, 3));
    std::vector<double> lengths;
    std::vector<double> weights;
    double shortest = std::numeric_limits<double>::infinity();
    double longest = 0.0;
    for (int row = 0; row < 150; ++row) {
      lengths.push_back(draws.uniform() < 0.4 ? std::floor(draws.exponential(300.0)) : kUnknown);
      weights.push_back(draws.uniform() < 0.1 ? 0.0 : 0.5 + draws.uniform());
      if (lengths.back() == kUnknown || weights.back() == 0.0) continue;
      shortest = std::min(shortest, lengths.back());
      longest = std::max(longest, lengths.back());
    }
    const KnownLengths known{.lengths = lengths, .weights = weights};
    const auto estimates = estimate_lengths(tree, known);
    const NaiveEstimate naive(tree.layout(), known);
    for (std::int32_t leaf = 0; leaf < 150; ++leaf) {
      const std::int32_t row = tree.layout().rows[static_cast<std::size_t>(leaf)];
      const auto& estimate = estimates[static_cast<std::size_t>(row)];
      if (known.is_known(row)) {
        CHECK(estimate == LengthEstimate::exactly(known.length(row)));
        continue;
      }
      const auto expected = naive.of_node(tree.layout().leaf_parents[static_cast<std::size_t>(leaf)]);
      CHECK(estimate.mean == Approx(expected.mean));
      CHECK(estimate.second_moment == Approx(expected.second_moment));
      CHECK(estimate.mean >= shortest);
      CHECK(estimate.mean <= longest);
      CHECK(estimate.second_moment >= estimate.mean * estimate.mean);
      CHECK(estimate.second_moment <= longest * longest);
    }
  }
}

TEST_CASE("equal evidence gives exactly that estimate") {
  const auto tree = tree_of(random_prompts(3, 300, 5, 3));
  std::vector<double> lengths(300, kUnknown);
  std::vector<double> weights(300, 1.0);
  for (std::size_t row = 0; row < 300; row += 2) {
    lengths[row] = 0.1;
    weights[row] = 1.0 / (1.0 + static_cast<double>(row));
  }
  for (const auto& estimate : estimate_lengths(tree, {.lengths = lengths, .weights = weights})) {
    CHECK(estimate.mean == 0.1);
    CHECK(estimate.second_moment == 0.1 * 0.1);
  }
}

TEST_CASE("shrinkage beats the mean of all and the mean of the subtree") {
  for (const double between : {0.1, 0.4, 1.0}) {
    double error_shrunk = 0.0;
    double error_all = 0.0;
    double error_own = 0.0;
    for (std::uint64_t seed = 0; seed < 30; ++seed) {
      Draws draws(seed);
      const auto tree = tree_of(grouped_prompts(std::vector<int>(60, 40)));
      std::vector<double> means;
      std::vector<double> lengths;
      std::vector<EvidenceSums> sums(60);
      EvidenceSums all;
      for (std::size_t group = 0; group < 60; ++group) {
        means.push_back(300.0 * std::exp(between * draws.normal()));
        const std::size_t num_known = 1 + draws.below(6);
        for (std::size_t i = 0; i < 40; ++i) {
          lengths.push_back(i < num_known ? draws.exponential(means.back()) : kUnknown);
          if (i >= num_known) continue;
          sums[group].add(1.0, lengths.back());
          all.add(1.0, lengths.back());
        }
      }
      const auto estimates = estimates_of(tree, lengths);
      for (std::size_t group = 0; group < 60; ++group) {
        error_shrunk += std::pow(estimates[group * 40 + 39].mean - means[group], 2);
        error_all += std::pow(all.mean() - means[group], 2);
        error_own += std::pow(sums[group].mean() - means[group], 2);
      }
    }
    INFO("between " << between << ": shrunk " << error_shrunk << ", all " << error_all << ", own " << error_own);
    CHECK(error_shrunk < error_own);
    // Where subtrees hardly differ, knowing that costs a little.
    CHECK(error_shrunk < (between < 0.2 ? 1.25 : 1.0) * error_all);
  }
}

TEST_CASE("wrong lengths are refused by index and value") {
  const auto tree = tree_of({{1}, {2}});
  const auto message_of = [&](const std::vector<double>& lengths) -> std::string {
    try {
      estimates_of(tree, lengths);
    } catch (const InvalidInput& error) {
      return error.what();
    }
    return "";
  };
  const std::string remedy = "; a length is 0 to 2147483647, or -1 if it is not known";
  CHECK(message_of({1.0, std::nan("")}) == "output_lengths[1] is nan" + remedy);
  CHECK(message_of({-2.0, 1.0}) == "output_lengths[0] is -2.000000" + remedy);
  CHECK(message_of({1.0, INFINITY}) == "output_lengths[1] is inf" + remedy);
  CHECK(message_of({1.0}) == "output_lengths has 1 values for 2 requests");
  const std::vector<double> lengths{1.0, 2.0};
  const std::vector<double> weights{1.0, -1.0};
  CHECK_THROWS_AS(estimate_lengths(tree, {.lengths = lengths, .weights = weights}), InvalidInput);
  CHECK_THROWS_AS(estimate_lengths(tree, {.lengths = lengths}, {10.0, 50.0}), InvalidInput);
}
