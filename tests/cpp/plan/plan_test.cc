#include "plan/plan.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "plan/shards.h"
#include "planned_job.h"

using namespace blendserve;

namespace {

CostModel llama_on_a100() { return {ModelSpec::named("llama-3.1-8b"), DeviceSpec::named("a100-sxm-80gb")}; }

struct Job {
  Prompts prompts;
  std::vector<double> lens;

  std::shared_ptr<const Plan> plan(const PlanConfig& config = {}) const {
    ThreadPool pool(1);
    const auto tree = PrefixTree::build(Workload::from_prompts(prompts), pool);
    return Plan::make(tree, {.lengths = lens}, llama_on_a100(), config, 0.0);
  }
};

// Compute-heavy requests that share prompts, and memory-heavy ones that do not, in random order.
Job mixed_job(std::uint64_t seed, int count) {
  Job job;
  std::uint64_t counter = 0;
  const auto draw = [&](int low, int high) {
    return low + static_cast<int>(random_uniform(seed, counter++) * (high - low));
  };
  for (int i = 0; i < count; ++i) {
    const bool is_long = draw(0, 10) == 0;
    std::vector<Token> prompt(static_cast<std::size_t>(is_long ? 0 : 400), is_long ? 0 : draw(0, 6));
    for (int j = draw(20, 100); j > 0; --j) prompt.push_back(draw(10, 1000));
    job.prompts.push_back(std::move(prompt));
    job.lens.push_back(is_long ? draw(2000, 6000) : draw(5, 300));
  }
  return job;
}

void check_is_permutation(std::vector<std::int32_t> order, std::size_t count) {
  std::ranges::sort(order);
  std::vector<std::int32_t> rows(count);
  std::iota(rows.begin(), rows.end(), 0);
  CHECK(order == rows);
}

}  // namespace

TEST_CASE("a plan's order names every request once, whatever the lengths") {
  for (std::uint64_t seed = 0; seed < 30; ++seed) {
    Job job;
    job.prompts = random_prompts(seed, 1 + static_cast<int>(seed * 5), seed % 2 ? 4 : 50, 3);
    job.lens = PlannedJob::random_lengths(seed, job.prompts.size());
    if (seed % 3 == 0) std::ranges::fill(job.lens, 0.0);
    if (seed % 3 == 1) {
      for (std::size_t i = 0; i < job.lens.size(); i += 2) job.lens[i] = kUnknownLength;
    }
    const auto plan = job.plan();
    check_is_permutation(plan->order(), job.prompts.size());
    CHECK(plan->summary().sharing_ratio_planned() >= 0.99 * plan->summary().sharing_ratio_optimal() - 1e-12);
  }
}

TEST_CASE("the order takes from both ends: while both last, no long stretch is of one kind") {
  const Job job = mixed_job(1, 6000);
  const auto plan = job.plan();
  constexpr std::size_t kStretch = 600;
  const auto num_long = [&](const std::vector<std::int32_t>& order, std::size_t begin) {
    return std::count_if(order.begin() + static_cast<std::ptrdiff_t>(begin),
                         order.begin() + static_cast<std::ptrdiff_t>(begin + kStretch),
                         [&](std::int32_t row) { return job.lens[static_cast<std::size_t>(row)] >= 2000; });
  };
  CHECK(num_long(plan->layout().rows, 0) == 0);
  CHECK(num_long(plan->layout().rows, 6000 - kStretch) > static_cast<std::ptrdiff_t>(kStretch * 9 / 10));
  CHECK(num_long(plan->order(), 0) > 0);
  CHECK(num_long(plan->order(), 6000 - kStretch) < static_cast<std::ptrdiff_t>(kStretch * 9 / 10));
}

TEST_CASE("a restored plan is the plan") {
  const Job job = mixed_job(2, 500);
  const auto plan = job.plan();
  std::vector<RequestShape> shapes(job.prompts.size());
  for (std::size_t leaf = 0; leaf < shapes.size(); ++leaf) {
    shapes[static_cast<std::size_t>(plan->layout().rows[leaf])] = plan->tree().shapes[leaf];
  }
  const auto again =
      Plan::restore(plan->model(), shapes, plan->layout().rows, plan->layout().lcp, plan->order(), plan->summary());
  CHECK(again->order() == plan->order());
  CHECK(again->layout().leaf_parents.size() == plan->layout().leaf_parents.size());
  CHECK(again->units().size() == plan->units().size());
  CHECK(again->tree().total().total() == Approx(plan->tree().total().total()));

  auto order = plan->order();
  order[0] = order[1];
  CHECK_THROWS_AS(Plan::restore(plan->model(), shapes, plan->layout().rows, plan->layout().lcp, order, plan->summary()),
                  InvalidInput);
  auto lcp = plan->layout().lcp;
  lcp[1] = 100'000;
  CHECK_THROWS_AS(Plan::restore(plan->model(), shapes, plan->layout().rows, lcp, plan->order(), plan->summary()),
                  InvalidInput);
}

TEST_CASE("an empty job can't be planned") { CHECK_THROWS_AS(Job{}.plan(), InvalidInput); }

TEST_CASE("shards are equal in compute and in memory time, and lose a path a cut at most") {
  for (const std::int32_t num_shards : {1, 2, 3, 4, 8}) {
    const Job job = mixed_job(3, 8000);
    const auto plan = job.plan();
    const auto shards = cut_shards(plan->tree(), num_shards);
    REQUIRE(static_cast<std::int32_t>(shards.size()) == num_shards);
    Cost largest;
    for (std::size_t leaf = 0; leaf < plan->tree().shapes.size(); ++leaf) {
      const RequestShape shape = plan->tree().shapes[leaf];
      const Cost cost = plan->costs().leaf(shape, 0);
      largest.compute_s = std::max(largest.compute_s, cost.compute_s);
      largest.memory_s = std::max(largest.memory_s, cost.memory_s);
    }
    const Cost mean{plan->summary().cost.compute_s / num_shards, plan->summary().cost.memory_s / num_shards};
    std::vector<std::int32_t> rows;
    std::int64_t num_lost = 0;
    for (const Shard& shard : shards) {
      rows.insert(rows.end(), shard.rows.begin(), shard.rows.end());
      num_lost += shard.num_lost_tokens;
      CHECK(std::abs(shard.cost.compute_s - mean.compute_s) <= std::max(0.02 * mean.compute_s, largest.compute_s / 2));
      CHECK(std::abs(shard.cost.memory_s - mean.memory_s) <= std::max(0.02 * mean.memory_s, largest.memory_s / 2));
    }
    check_is_permutation(rows, job.prompts.size());
    CHECK(num_lost <= 2 * (num_shards - 1) * 500);
  }
}

TEST_CASE("every shard of a large job has its part of all densities") {
  const Job job = mixed_job(5, 40'000);
  const auto plan = job.plan();
  for (const Shard& shard : cut_shards(plan->tree(), 4)) {
    CHECK(shard.rows.size() > 7'500);
    CHECK(shard.rows.size() < 12'500);
  }
}

TEST_CASE("there are as many shards as requests at most, and every one gets a request") {
  const Job job = mixed_job(4, 5);
  const auto plan = job.plan();
  const auto shards = cut_shards(plan->tree(), 5);
  for (const Shard& shard : shards) CHECK(shard.rows.size() == 1);
  CHECK_THROWS_WITH(cut_shards(plan->tree(), 6), Catch::Contains("num_shards is 6"));
  CHECK_THROWS_AS(cut_shards(plan->tree(), 0), InvalidInput);
}
