#include <catch2/catch.hpp>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "perf/time_corrector.h"
#include "plan/planned_job.h"
#include "policy/blend_policy.h"
#include "policy/pace.h"
#include "sim/simulate.h"

using namespace blendserve;

namespace {

const CostModel& llama_on_a100() {
  static const CostModel model(ModelSpec::named("llama-3.1-8b"), DeviceSpec::named("a100-sxm-80gb"));
  return model;
}

// The same device, taken for one whose arithmetic and memory are faster.
CostModel taken_for_faster(double compute, double memory) {
  DeviceSpec device = llama_on_a100().device();
  device.flops_2_byte *= compute;
  device.bandwidth *= memory;
  return {llama_on_a100().model(), device};
}

// Requests of two kinds: long prompts with short answers, and short prompts with long ones.
struct MixedJob {
  Prompts prompts;
  std::vector<std::int32_t> lens;

  explicit MixedJob(int count, std::uint64_t seed) {
    std::mt19937_64 rng(seed);
    std::uniform_real_distribution<double> uniform(0, 1);
    for (Token i = 0; i < count; ++i) {
      const bool is_long = uniform(rng) < 0.1;
      const int prompt_len = is_long ? 40 : static_cast<int>(200 + 1200 * uniform(rng));
      std::vector<Token> prompt(static_cast<std::size_t>(prompt_len), i);
      prompt.front() = is_long ? 1'000'000 : 2'000'000;
      prompts.push_back(std::move(prompt));
      lens.push_back(static_cast<std::int32_t>(is_long ? 1000 + 2000 * uniform(rng) : 1 + 60 * uniform(rng)));
    }
  }
};

// Seconds on the real device, of a schedule for the one it is `taken_for`.
double run_s(const MixedJob& job, const CostModel& taken_for, Execution execution, TimeCorrector* corrector) {
  ThreadPool pool(1);
  const auto tree = PrefixTree::build(Workload::from_prompts(job.prompts), pool);
  const std::vector<double> lens(job.lens.begin(), job.lens.end());
  const auto plan = Plan::make(tree, {.lengths = lens}, taken_for, {}, 0.0);
  const BlendConfig config{.execution = execution, .first_rows = {}};
  StepScheduler scheduler({.num_blocks = 10'000, .max_batch_tokens = 2048},
                          std::make_unique<BlendPolicy>(plan, tree.layout(), config));
  std::vector<LengthLimits> limits;
  for (const std::int32_t len : job.lens) limits.push_back({len, 0});
  scheduler.add_requests(Workload::from_prompts(job.prompts), limits);
  return simulate(scheduler, llama_on_a100(), job.lens, {.execution = execution, .corrector = corrector}).total_s;
}

}  // namespace

TEST_CASE("what a step is given is what the device as it is would be given, whatever it was taken for") {
  for (const auto& [compute, memory] : {std::pair{1.0, 3.0}, {2.0, 1.0}, {3.0, 3.0}, {0.5, 2.0}}) {
    const CostModel wrong = taken_for_faster(compute, memory);
    for (const Execution execution : {Execution::kOverlapped, Execution::kSequential}) {
      const Pace right(llama_on_a100(), execution);
      Pace corrected(wrong, execution);
      corrected.correct({.compute = compute, .memory = memory});
      for (const double kv_tokens : {0.0, 50'000.0, 400'000.0}) {
        const double right_s = right.free_compute_s(kv_tokens * llama_on_a100().t_kv());
        CHECK(corrected.free_compute_s(kv_tokens * wrong.t_kv()) / wrong.t_tok() ==
              Approx(right_s / llama_on_a100().t_tok()));
        CHECK(corrected.cheap_compute_s(kv_tokens * wrong.t_kv()) / wrong.t_tok() ==
              Approx(right.cheap_compute_s(kv_tokens * llama_on_a100().t_kv()) / llama_on_a100().t_tok()));
      }
    }
  }
}

TEST_CASE("sequential steps keep the width that was measured") {
  DeviceSpec device = DeviceSpec::named("cpu");
  device.measured = MeasuredRates{.element_bytes = 4,
                                  .layers = RateCurve({{1, 10e9}, {64, 200e9}, {128, 235e9}, {512, 250e9}}),
                                  .head = RateCurve({{1, 300e9}}),
                                  .prefill_attention_flops = 180e9,
                                  .decode_attention_bandwidth = 23e9};
  Pace pace(CostModel(ModelSpec::named("smollm2-135m-instruct"), device), Execution::kSequential);
  const double measured_s = pace.free_compute_s(1);
  pace.correct({.compute = 1, .memory = 4});
  CHECK(pace.free_compute_s(1) == measured_s);
}

TEST_CASE("measured times give back what a schedule for the wrong device loses") {
  struct Case {
    Execution execution;
    double least_loss;  // of the schedule for a device with four times the arithmetic
    double largest_loss;
  };
  const MixedJob job(4000, 1);
  const CostModel wrong = taken_for_faster(4, 1);
  for (const Case& each : {Case{Execution::kOverlapped, 0.10, 0.01}, {Execution::kSequential, 0.04, 0.005}}) {
    const double right_s = run_s(job, llama_on_a100(), each.execution, nullptr);
    TimeCorrector corrector(wrong, each.execution);
    CHECK(run_s(job, wrong, each.execution, nullptr) > (1 + each.least_loss) * right_s);
    CHECK(run_s(job, wrong, each.execution, &corrector) < (1 + each.largest_loss) * right_s);
    CHECK(corrector.correction() == TimeCorrection{.compute = 4, .memory = 1});
  }
}

TEST_CASE("on the device that was planned for, measured times change nothing") {
  const MixedJob job(1000, 2);
  TimeCorrector corrector(llama_on_a100(), Execution::kOverlapped);
  CHECK(run_s(job, llama_on_a100(), Execution::kOverlapped, &corrector) ==
        run_s(job, llama_on_a100(), Execution::kOverlapped, nullptr));
}
