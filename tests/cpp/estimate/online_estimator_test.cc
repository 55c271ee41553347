#include "estimate/online_estimator.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "base/error.h"
#include "estimate/builders.h"

using namespace blendserve;

namespace {

// Two subtrees of 500 requests.
struct Job {
  PrefixTree tree = tree_of(grouped_prompts({500, 500}));
  std::vector<double> known = std::vector<double>(1000, kUnknownLength);

  OnlineEstimator estimator(LengthEstimate first, LengthEstimate second) const {
    std::vector<LengthEstimate> start(500, first);
    start.resize(1000, second);
    return {tree, start, {.lengths = known}};
  }
};

}  // namespace

TEST_CASE("classes are the large subtrees, and pools of small ones by their estimates") {
  std::vector<int> sizes(10, 4);
  sizes.push_back(100);
  sizes.push_back(200);
  const auto tree = tree_of(grouped_prompts(sizes));
  std::vector<LengthEstimate> estimates(340, LengthEstimate::exactly(5.0));
  for (std::size_t row = 0; row < 20; ++row) estimates[row] = LengthEstimate::exactly(10'000.0);
  const LengthClasses classes(tree.layout(), estimates, tree.prompt_lens());
  const auto family = [&](std::size_t row) { return LengthClasses::family(classes.of_row[row]); };
  CHECK(classes.num_families == 4);
  CHECK(family(339) == 0);
  CHECK(family(139) == 1);
  CHECK(family(0) == family(19));
  CHECK(family(20) == family(39));
  CHECK(family(0) != family(20));
}

TEST_CASE("the classes of a family are its quarters by prompt length") {
  const auto tree = tree_of(grouped_prompts({400}));
  const std::vector<LengthEstimate> estimates(400, LengthEstimate::exactly(5.0));
  std::vector<std::int32_t> lens(400);
  for (std::size_t row = 0; row < lens.size(); ++row) lens[row] = static_cast<std::int32_t>(400 - row);
  const LengthClasses classes(tree.layout(), estimates, lens);
  std::vector<int> sizes(static_cast<std::size_t>(classes.count()), 0);
  for (const auto length_class : classes.of_row) ++sizes[length_class];
  for (const int size : sizes) CHECK(size == Approx(100).margin(1));
  CHECK(classes.of_row[399] < classes.of_row[0]);
}

TEST_CASE("before any evidence an estimate is what it started with") {
  const Job job;
  auto estimator = job.estimator({100.0, 20'000.0}, {20.0, 400.0});
  estimator.refresh({});
  CHECK(estimator.estimate(0).mean == Approx(100.0));
  CHECK(estimator.estimate(0).second_moment == Approx(20'000.0).epsilon(0.01));
  CHECK(estimator.estimate(999).mean == Approx(20.0));
  CHECK(estimator.estimate(999).second_moment == Approx(720.0).epsilon(0.01));  // the least spread there is
}

TEST_CASE("finished requests correct their class more than the other one") {
  const Job job;
  auto estimator = job.estimator({100.0, 20'000.0}, {100.0, 20'000.0});
  for (std::int32_t row = 0; row < 200; ++row) estimator.on_finish(row, 250 + row);
  CHECK(estimator.estimate(300).mean == Approx(100.0));  // estimates change at a refresh
  estimator.refresh({});
  CHECK(estimator.estimate(300).mean == Approx(350.0).epsilon(0.1));
  for (std::int32_t row = 500; row < 700; ++row) estimator.on_finish(row, 50);
  estimator.refresh({});
  CHECK(estimator.estimate(300).mean == Approx(350.0).epsilon(0.1));
  CHECK(estimator.estimate(800).mean == Approx(50.0).epsilon(0.1));
}

TEST_CASE("a running request that outlives its estimate is estimated from those that lived as long") {
  const Job job;
  auto estimator = job.estimator({100.0, 12'500.0}, {100.0, 12'500.0});
  for (std::int32_t row = 0; row < 300; ++row) estimator.on_finish(row, row < 270 ? 50 : 1000);
  estimator.refresh({});
  CHECK(estimator.expected_remaining(400, 200) == Approx(800.0).epsilon(0.3));
  CHECK(estimator.expected_remaining(400, 10) < 200.0);
}

TEST_CASE("ages of running requests are evidence, and each refresh replaces them") {
  const Job job;
  auto estimator = job.estimator({100.0, 15'000.0}, {100.0, 15'000.0});
  std::vector<RunningAge> running;
  for (std::int32_t row = 0; row < 300; ++row) running.push_back({row, 400});
  estimator.refresh(running);
  CHECK(estimator.estimate(400).mean > 350.0);
  estimator.refresh({});
  CHECK(estimator.estimate(400).mean == Approx(100.0));
}

TEST_CASE("a job under way is estimated better than from what finished, and than from the start") {
  for (const bool is_lognormal : {false, true}) {
    Draws draws(7);
    const Job job;
    auto estimator = job.estimator({150.0, 45'000.0}, {150.0, 45'000.0});
    std::vector<RunningAge> running;
    double sum = 0.0;
    double num_finished = 0.0;
    for (std::int32_t row = 0; row < 500; ++row) {
      const int age = static_cast<int>(600.0 * draws.uniform());
      const double len = is_lognormal ? 300.0 * std::exp(draws.normal() - 0.5) : draws.exponential(300.0);
      if (len > age) {
        running.push_back({row, age});
        continue;
      }
      estimator.on_finish(row, static_cast<std::int32_t>(std::ceil(len)));
      sum += std::ceil(len);
      num_finished += 1.0;
    }
    estimator.refresh(running);
    const double error = std::abs(estimator.estimate(0).mean - 300.0);
    INFO("lognormal " << is_lognormal << ": " << estimator.estimate(0).mean << ", finished " << sum / num_finished);
    CHECK(error < std::abs(sum / num_finished - 300.0) / 2.0);
    CHECK(error < 75.0);
  }
}

TEST_CASE("known lengths stay, caps hold, and one more token is always to come") {
  Job job;
  job.known[0] = 70.0;
  std::vector<std::int32_t> caps(1000, 150);
  std::vector<LengthEstimate> start(1000, {100.0, 15'000.0});
  start[0] = LengthEstimate::exactly(70.0);
  OnlineEstimator estimator(job.tree, start, {.lengths = job.known, .max_output_lens = caps});
  for (std::int32_t row = 0; row < 100; ++row) estimator.on_finish(row, 1000);
  estimator.refresh({});
  CHECK(estimator.estimate(0) == LengthEstimate{70.0, 4900.0});
  CHECK(estimator.expected_remaining(0, 30) == 40.0);
  CHECK(estimator.expected_remaining(0, 90) == 1.0);
  CHECK(estimator.estimate(400) == LengthEstimate{150.0, 22'500.0});
  CHECK(estimator.expected_remaining(400, 149) == 1.0);
  CHECK_THROWS_AS(OnlineEstimator(job.tree, {}, {.lengths = job.known}), InvalidInput);
}
