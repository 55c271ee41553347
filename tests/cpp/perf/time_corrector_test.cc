#include "perf/time_corrector.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "base/error.h"

using namespace blendserve;

namespace {

const CostModel& llama_on_a100() {
  static const CostModel model(ModelSpec::named("llama-3.1-8b"), DeviceSpec::named("a100-sxm-80gb"));
  return model;
}

// Steps of any mix: 1 to 2,048 tokens of prompts beside decodes that read up to 400,000 tokens of KV cache.
std::vector<BatchDesc> mixed_steps(std::size_t count, std::uint64_t seed) {
  std::mt19937_64 rng(seed);
  std::vector<BatchDesc> steps(count);
  for (BatchDesc& step : steps) {
    step.add_chunk(0, static_cast<std::int64_t>(std::exp2(std::uniform_real_distribution<double>(0, 11)(rng))));
    for (std::int64_t left = std::uniform_int_distribution<std::int64_t>(1, 200)(rng); left > 0; --left) {
      step.add_decode(2000);
    }
  }
  return steps;
}

std::vector<BatchDesc> equal_steps(std::size_t count) {
  BatchDesc step;
  step.add_chunk(0, 1000);
  for (int i = 0; i < 100; ++i) step.add_decode(2000);
  return std::vector<BatchDesc>(count, step);
}

// What the steps take on a device that is slower by `truth`; `noise` is the standard deviation of the logarithm.
std::vector<double> times_of(const std::vector<BatchDesc>& steps, const TimeCorrection& truth, Execution execution,
                             double noise = 0) {
  std::mt19937_64 rng(7);
  std::normal_distribution<double> normal(0, 1);
  std::vector<double> times;
  for (const BatchDesc& step : steps) {
    times.push_back(step_time(llama_on_a100(), step, execution, truth).total_s * std::exp(noise * normal(rng)));
  }
  return times;
}

// The step after which the correction changed first, and what it is in the end.
struct Outcome {
  std::size_t first_change = 0;
  int num_changes = 0;
  TimeCorrection correction;
};

Outcome outcome_of(const std::vector<BatchDesc>& steps, const std::vector<double>& times, Execution execution) {
  TimeCorrector corrector(llama_on_a100(), execution);
  Outcome outcome;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    if (!corrector.add(steps[i], times[i])) continue;
    if (outcome.num_changes++ == 0) outcome.first_change = i + 1;
  }
  outcome.correction = corrector.correction();
  return outcome;
}

double steps_apart(double a, double b) { return 16 * std::abs(std::log2(a / b)); }

}  // namespace

TEST_CASE("the factors of a slower device are found after the first period, under noise too") {
  for (const Execution execution : {Execution::kSequential, Execution::kOverlapped}) {
    for (const TimeCorrection truth : {TimeCorrection{1, 1.5}, {2.5, 1}, {1.3, 1.3}, {3, 0.7}, {0.5, 3}}) {
      for (const double noise : {0.0, 0.1}) {
        const auto steps = mixed_steps(1024, 1);
        const Outcome outcome = outcome_of(steps, times_of(steps, truth, execution, noise), execution);
        INFO(static_cast<int>(execution) << " " << truth.compute << " " << truth.memory << " " << noise);
        CHECK(outcome.first_change == TimeCorrector::kPeriod);
        CHECK(steps_apart(outcome.correction.compute, truth.compute) <= (noise == 0 ? 0.75 : 3));
        CHECK(steps_apart(outcome.correction.memory, truth.memory) <= (noise == 0 ? 0.75 : 3));
      }
    }
  }
}

TEST_CASE("steps that take far too long do not count more than others") {
  const auto steps = mixed_steps(1024, 2);
  auto times = times_of(steps, {1, 2}, Execution::kSequential, 0.05);
  for (std::size_t i = 0; i < times.size(); i += 10) times[i] *= 20;
  const TimeCorrection found = outcome_of(steps, times, Execution::kSequential).correction;
  CHECK(steps_apart(found.compute, 1) <= 2);
  CHECK(steps_apart(found.memory, 2) <= 2);
}

TEST_CASE("a device that is as predicted is not corrected") {
  const auto steps = mixed_steps(4096, 3);
  CHECK(outcome_of(steps, times_of(steps, {}, Execution::kSequential, 0.1), Execution::kSequential).num_changes == 0);
}

TEST_CASE("steps of one mix do not tell arithmetic from reads, and change nothing") {
  const auto steps = equal_steps(2048);
  for (const double noise : {0.0, 0.1}) {
    const auto times = times_of(steps, {1, 3}, Execution::kSequential, noise);
    CHECK(outcome_of(steps, times, Execution::kSequential).correction == TimeCorrection{});
  }
}

TEST_CASE("times that have nothing to do with the steps change nothing") {
  const auto steps = mixed_steps(4096, 4);
  const auto times = times_of(steps, {}, Execution::kSequential, 3);
  CHECK(outcome_of(steps, times, Execution::kSequential).num_changes == 0);
}

TEST_CASE("factors are powers of the 16th root of 2 within bounds, the same for the same steps") {
  const auto steps = mixed_steps(512, 6);
  const auto times = times_of(steps, {1.234, 100}, Execution::kSequential, 0.05);
  const TimeCorrection found = outcome_of(steps, times, Execution::kSequential).correction;
  CHECK(found == outcome_of(steps, times, Execution::kSequential).correction);
  CHECK(16 * std::log2(found.compute) == Approx(std::round(16 * std::log2(found.compute))).margin(1e-9));
  CHECK(found.memory == TimeCorrector::kLargest);
}

TEST_CASE("a device that changes is followed, within a window") {
  const auto steps = mixed_steps(2 * TimeCorrector::kWindow, 8);
  auto times = times_of(steps, {1, 1}, Execution::kSequential, 0.05);
  const auto slow = times_of(steps, {2, 1}, Execution::kSequential, 0.05);
  std::copy(slow.begin() + TimeCorrector::kWindow, slow.end(), times.begin() + TimeCorrector::kWindow);
  const Outcome outcome = outcome_of(steps, times, Execution::kSequential);
  CHECK(outcome.first_change > TimeCorrector::kWindow);
  CHECK(steps_apart(outcome.correction.compute, 2) <= 2);
  CHECK(steps_apart(outcome.correction.memory, 1) <= 2);
}

TEST_CASE("what no step can be is refused") {
  TimeCorrector corrector(llama_on_a100(), Execution::kSequential);
  const BatchDesc step = equal_steps(1).front();
  CHECK_THROWS_AS(corrector.add({}, 1.0), InvalidInput);
  CHECK_THROWS_AS(corrector.add(step, 0.0), InvalidInput);
  CHECK_THROWS_AS(corrector.add(step, std::numeric_limits<double>::quiet_NaN()), InvalidInput);
}
