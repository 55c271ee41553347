#include <algorithm>
#include <catch2/catch.hpp>
#include <limits>
#include <numeric>

#include "plan/conditional_split.h"
#include "plan/density_order.h"
#include "plan/outliers.h"
#include "plan/regroup.h"
#include "plan/scan_units.h"
#include "plan/workload_sums.h"
#include "planned_job.h"

using namespace blendserve;

namespace {

constexpr int kNumSeeds = 40;

PlannedJob random_job(std::uint64_t seed, bool cascade_attention = false) {
  const auto prompts = random_prompts(seed, 5 + static_cast<int>(seed * 9), seed % 2 ? 6 : 40, seed % 3 ? 2 : 9);
  return {prompts, PlannedJob::random_lengths(seed, prompts.size()), cascade_attention};
}

// Every parent's children from left to right by density, with the leaves of the layout in between.
void check_children_are_sorted(const PlannedJob& job) {
  std::vector<double> last(job.layout().nodes.size(), std::numeric_limits<double>::infinity());
  std::vector<std::vector<NodeId>> begins(job.layout().rows.size());
  for (NodeId id = 0; id < job.layout().root(); ++id) {
    begins[static_cast<std::size_t>(job.layout().node(id).begin)].push_back(id);
  }
  const auto check = [&](NodeId parent, double density) {
    auto& before = last[static_cast<std::size_t>(parent)];
    CHECK(density <= before);
    before = density;
  };
  for (std::int32_t leaf = 0; leaf < job.layout().num_leaves(); ++leaf) {
    for (const NodeId id : begins[static_cast<std::size_t>(leaf)]) {
      check(job.layout().node(id).parent, job.planned.subtrees[static_cast<std::size_t>(id)].density());
    }
    check(job.layout().leaf_parents[static_cast<std::size_t>(leaf)], job.planned.leaf(leaf).density());
  }
}

std::vector<std::int32_t> sorted(std::vector<std::int32_t> rows) {
  std::ranges::sort(rows);
  return rows;
}

}  // namespace

TEST_CASE("a node costs its own segment once, and what lies below it") {
  // 1 2 3 | 4 and 1 2 3 | 5 6, outputs of 10 and 20; a token computes in 1 s, a KV token is read in 0.01 s.
  const PlannedJob job({{1, 2, 3, 4}, {1, 2, 3, 5, 6}, {9}}, {10, 20, 0});
  REQUIRE(job.layout().nodes.size() == 2);
  CHECK(job.planned.subtrees[0].compute_s == Approx(6 + 30));
  CHECK(job.planned.subtrees[0].memory_s == Approx((4 * 10 + 50 + 5 * 20 + 200) * 0.01));
  CHECK(job.planned.subtrees[1].compute_s == Approx(7 + 30));
  CHECK(job.planned.leaf(2).density() == std::numeric_limits<double>::infinity());
}

TEST_CASE("with cascade attention a shared segment is read once a step, for as long as its longest request runs") {
  const PlannedJob job({{1, 2, 3, 4}, {1, 2, 3, 5, 6}}, {10, 20}, true);
  CHECK(job.planned.subtrees[0].compute_s == Approx(6 + 30));
  CHECK(job.planned.subtrees[0].memory_s == Approx((1 * 10 + 50 + 2 * 20 + 200 + 3 * 20) * 0.01));
  const WorkloadSums sums = workload_sums(job.planned, job.costs.has_cascade_attention());
  CHECK(sums.kv_reads == Approx(1 * 9 + 45 + 2 * 19 + 190 + 3 * 19));
  CHECK(sums.unshared_kv_reads == Approx(1 * 9 + 45 + 2 * 19 + 190));
}

TEST_CASE("the sums of a job count every segment once and every decode step's reads") {
  const PlannedJob job({{1, 2, 3, 4}, {1, 2, 3, 5, 6}, {1, 2, 3, 5, 6}}, {10, 20, 1});
  const WorkloadSums sums = workload_sums(job.planned, job.costs.has_cascade_attention());
  CHECK(sums.num_requests == 3);
  CHECK(sums.unique_prompt_tokens == 6);
  CHECK(sums.unique_prompt_squares == 16 + 25 - 9);
  CHECK(sums.decode_steps == 9 + 19);
  CHECK(sums.kv_reads == 4 * 9 + 45 + 5 * 19 + 190);
  CHECK(sums.unshared_kv_reads == 1 * 9 + 45 + 190);
  CHECK(sums.max_output_len == 20);
}

TEST_CASE("items come by density, the densest first, equal ones in their order") {
  const double inf = std::numeric_limits<double>::infinity();
  const std::vector<double> densities{1, 1.0000000001, inf, 0, 1, 1.00000000005, 1e300, inf};
  std::vector<std::uint32_t> items(densities.size());
  std::iota(items.begin(), items.end(), 0U);
  DensityOrder().sort(items, [&](std::uint32_t item) { return densities[item]; });
  CHECK(items == std::vector<std::uint32_t>{2, 7, 6, 1, 5, 0, 4, 3});
}

TEST_CASE("the layer-wise sort orders the children of every node and keeps the tree") {
  for (std::uint64_t seed = 0; seed < kNumSeeds; ++seed) {
    auto job = random_job(seed, seed % 4 == 0);
    const auto rows = sorted(job.layout().rows);
    const auto num_unique = job.num_unique_tokens();
    const auto costs_before = job.planned.subtrees;
    std::vector<RequestShape> shapes_before(rows.size());  // by row
    for (std::size_t leaf = 0; leaf < rows.size(); ++leaf) {
      shapes_before[static_cast<std::size_t>(job.layout().rows[leaf])] = job.planned.shapes[leaf];
    }
    job.sort();
    job.layout().verify();
    check_children_are_sorted(job);
    CHECK(sorted(job.layout().rows) == rows);
    CHECK(job.num_unique_tokens() == num_unique);
    const auto fresh = annotate(job.layout(), job.planned.shapes, job.costs);
    for (std::size_t id = 0; id < costs_before.size(); ++id) {
      CHECK(fresh.subtrees[id].compute_s == Approx(costs_before[id].compute_s));
      CHECK(fresh.subtrees[id].memory_s == Approx(costs_before[id].memory_s));
    }
    for (std::size_t leaf = 0; leaf < rows.size(); ++leaf) {
      const auto row = static_cast<std::size_t>(job.layout().rows[leaf]);
      CHECK(job.planned.shapes[leaf].prompt_len == job.tree.prompt_len(job.layout().rows[leaf]));
      CHECK(job.planned.shapes[leaf].output_len == shapes_before[row].output_len);
    }
  }
}

TEST_CASE("regrouping keeps every leaf and shares what is left together") {
  // Two trees: 5 5 | {1, 2 | {7, 8}} and 6 6 | {1, 2}.
  const PlannedJob job({{5, 5, 1}, {5, 5, 2, 7}, {5, 5, 2, 8}, {6, 6, 1}, {6, 6, 2}}, {1, 1, 1, 1, 1});
  const auto tree = regroup(job.planned, std::vector<std::int8_t>{kStays, 3, 3, kStays, 0}, 0);
  tree.layout.verify();
  CHECK(tree.layout.rows == std::vector<std::int32_t>{0, 3, 1, 2, 4});
  CHECK(tree.layout.lcp == std::vector<std::int32_t>{0, 0, 0, 3, 0});
  CHECK(tree.shapes[2].prompt_len == 4);
}

namespace {

// Three trees with prefixes of `prefix_len` tokens, each below `above`: two of them dense but for a few long outputs,
// the third one has long outputs only.
struct ThreeTrees {
  static constexpr int kPerTree = 40;
  static constexpr int kLongPerTree = 4;
  Prompts prompts;
  std::vector<double> lens;

  ThreeTrees(int prefix_len, const std::vector<Token>& above) {
    for (int tree = 0; tree < 3; ++tree) {
      for (int i = 0; i < kPerTree; ++i) {
        const bool is_long = tree == 2 || i < kLongPerTree;
        std::vector<Token> prompt = above;
        prompt.insert(prompt.end(), static_cast<std::size_t>(prefix_len), 1 + tree);
        prompt.insert(prompt.end(), is_long ? 1 : 200, 10 + i);
        prompts.push_back(prompt);
        lens.push_back(is_long ? 300 : 1);
      }
    }
  }
};

}  // namespace

TEST_CASE("outliers move to their place under a copy of their prefix, those of one tree and band under one copy") {
  const ThreeTrees trees(8, {});
  PlannedJob job(trees.prompts, trees.lens);
  job.sort();
  const auto before = job.num_unique_tokens();
  REQUIRE(find_outliers(job.planned, 1.0 / 64).size() >= ThreeTrees::kLongPerTree);
  const auto report = conditional_split(job.planned, {.budget = 0.1});
  job.layout().verify();
  CHECK(report.stop == SplitStop::kMonotone);
  CHECK(report.num_splits >= ThreeTrees::kLongPerTree);
  CHECK(report.num_copied_tokens > 0);
  CHECK(report.num_copied_tokens < 8 * report.num_splits);
  CHECK(job.num_unique_tokens() == before + report.num_copied_tokens);
  CHECK(find_outliers(job.planned, 1.0 / 64).empty());
}

TEST_CASE("a chat template above all requests is not copied") {
  const ThreeTrees trees(1, std::vector<Token>(100, 9));
  PlannedJob job(trees.prompts, trees.lens);
  job.sort();
  const auto report = conditional_split(job.planned, {.budget = 0.01});
  CHECK(report.num_splits >= ThreeTrees::kLongPerTree);
  CHECK(report.num_copied_tokens <= report.num_splits);
}

TEST_CASE("a job that one resource bounds is not split") {
  const ThreeTrees trees(8, {});
  for (const double output_len : {1.0, 5000.0}) {
    std::vector<double> lens = trees.lens;
    for (std::size_t i = 0; i < lens.size(); ++i) lens[i] = output_len + static_cast<double>(i % 7) * output_len / 10;
    PlannedJob job(trees.prompts, lens);
    job.sort();
    const auto report = conditional_split(job.planned, {.budget = 1});
    CHECK(report.stop == SplitStop::kOneSided);
    CHECK(report.num_splits == 0);
  }
}

TEST_CASE("splits stay within the budget, move a leaf once and leave a sorted tree") {
  for (std::uint64_t seed = 0; seed < kNumSeeds; ++seed) {
    for (const double budget : {0.0, 0.01, 0.3, 1.0}) {
      auto job = random_job(seed, seed % 4 == 0);
      const auto rows = sorted(job.layout().rows);
      const auto before = job.num_unique_tokens();
      const auto num_shared = job.tree.num_prompt_tokens() - before;
      job.sort();
      const auto report = conditional_split(job.planned, {.budget = budget});
      job.layout().verify();
      check_children_are_sorted(job);
      CHECK(sorted(job.layout().rows) == rows);
      CHECK(report.num_splits <= job.tree.num_requests());
      CHECK(job.num_unique_tokens() == before + report.num_copied_tokens);
      CHECK(report.num_copied_tokens >= 0);
      CHECK(static_cast<double>(report.num_copied_tokens) <=
            budget * static_cast<double>(std::min(num_shared, before)));
      const auto fresh = annotate(job.layout(), job.planned.shapes, job.costs);
      for (std::size_t id = 0; id < fresh.subtrees.size(); ++id) {
        CHECK(fresh.subtrees[id].total() == Approx(job.planned.subtrees[id].total()));
      }
    }
  }
}

TEST_CASE("the split budget must be a share") {
  auto job = random_job(3);
  job.sort();
  for (const double budget : {-0.1, 1.1, std::numeric_limits<double>::quiet_NaN()}) {
    CHECK_THROWS_WITH(conditional_split(job.planned, {.budget = budget}), Catch::Contains("split_budget is"));
  }
}

TEST_CASE("scan units cover the leaves once, from left to right") {
  for (std::uint64_t seed = 0; seed < kNumSeeds; ++seed) {
    auto job = random_job(seed);
    job.sort();
    const auto units = scan_units(job.planned);
    std::int32_t next = 0;
    for (const ScanUnit& unit : units) {
      CHECK(unit.begin == next);
      CHECK(unit.end > unit.begin);
      CHECK(unit.cost.total() > 0);
      next = unit.end;
    }
    CHECK(next == job.layout().num_leaves());
  }
}

TEST_CASE("requests of about the same density are one unit, others are not") {
  Prompts prompts;
  std::vector<double> lens;
  for (Token i = 0; i < 100; ++i) {
    prompts.push_back({i, i, i, i});
    lens.push_back(i < 60 ? 2 : 300 + i % 5);
  }
  PlannedJob job(prompts, lens);
  job.sort();
  const auto units = scan_units(job.planned);
  REQUIRE(units.size() == 2);
  CHECK(units[0].end == 60);
}
