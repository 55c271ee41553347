#include "sim/simulate.h"

#include <catch2/catch.hpp>
#include <memory>
#include <vector>

#include "base/error.h"
#include "policy/baseline_policy.h"
#include "sim/run_recorder.h"
#include "sim/simulated_executor.h"

using namespace blendserve;

namespace {

const CostModel& llama_on_a100() {
  static const CostModel model(ModelSpec::named("llama-3.1-8b"), DeviceSpec::named("a100-sxm-80gb"));
  return model;
}

// One prompt of `prompt_len` tokens, `output_len` outputs.
Simulation simulate_one(int prompt_len, std::int32_t output_len, Execution execution) {
  StepScheduler scheduler({.num_blocks = 1000}, std::make_unique<BaselinePolicy>(StaticOrder::kFcfs, 0));
  const std::vector<LengthLimits> limits{{output_len, 0}};
  scheduler.add_requests(Workload::from_prompts({std::vector<Token>(static_cast<std::size_t>(prompt_len), 7)}), limits);
  const std::vector<std::int32_t> lens{output_len};
  return simulate(scheduler, llama_on_a100(), lens, {.execution = execution, .timeline_bins = 8});
}

}  // namespace

TEST_CASE("one request takes the time of its chunk and of its decode steps, by hand") {
  const CostModel& cost = llama_on_a100();
  const double weights = cost.weight_read_s();
  double sequential = 1024 * cost.t_tok() + cost.t_attn() * 1000.0 * 1000.0;
  double overlapped = sequential;
  for (int len = 1001; len < 1001 + 49; ++len) {
    sequential += weights + len * cost.t_kv();
    overlapped += weights + len * cost.t_kv();
  }
  CHECK(simulate_one(1000, 50, Execution::kSequential).total_s == Approx(sequential).epsilon(1e-12));
  CHECK(simulate_one(1000, 50, Execution::kOverlapped).total_s == Approx(overlapped).epsilon(1e-12));
}

TEST_CASE("memory time is what the decode steps read") {
  const double reads = 49 * 1000 + 49 * 50 / 2;
  CHECK(simulate_one(1000, 50, Execution::kOverlapped).memory_s ==
        Approx(reads * llama_on_a100().t_kv()).epsilon(1e-12));
}

TEST_CASE("a timeline holds all of a run in few bins") {
  const Simulation run = simulate_one(10, 1000, Execution::kOverlapped);
  TimelineBin all;
  for (const TimelineBin& bin : run.timeline) all += bin;
  CHECK(run.timeline.size() <= 8);
  CHECK(run.timeline.size() >= 4);
  CHECK(all.num_steps == 1000);
  CHECK(all.num_output_tokens == 1000);
  CHECK(all.duration_s == Approx(run.total_s));
  CHECK(all.predicted_s == Approx(run.total_s));
  CHECK(all.memory_s == Approx(run.memory_s));
}

TEST_CASE("a recorded run may have several schedulers, each with counts of its own") {
  RunRecorder recorder(8);
  const std::vector<std::int32_t> lens{2};
  SimulatedExecutor executor(lens);
  for (int i = 0; i < 3; ++i) {
    StepScheduler scheduler({.num_blocks = 10}, std::make_unique<BaselinePolicy>(StaticOrder::kFcfs, 0));
    const std::vector<LengthLimits> limits{{2, 0}};
    scheduler.add_requests(Workload::from_prompts({{1, 2, 3}}), limits);
    while (const auto plan = scheduler.schedule()) {
      scheduler.update(*plan, executor.run(*plan));
      recorder.add(scheduler, *plan, {.compute_s = 1, .memory_s = 2, .total_s = 3}, 4);
    }
  }
  TimelineBin all;
  for (const TimelineBin& bin : recorder.bins()) all += bin;
  CHECK(all.num_steps == 6);
  CHECK(all.num_prompt_tokens == 9);
  CHECK(all.num_output_tokens == 6);
  CHECK(all.duration_s == 24);
  CHECK(all.predicted_s == 18);
}

TEST_CASE("every request needs an output length of at least 1") {
  StepScheduler scheduler({.num_blocks = 10}, std::make_unique<BaselinePolicy>(StaticOrder::kFcfs, 0));
  const std::vector<LengthLimits> limits{{1, 0}};
  scheduler.add_requests(Workload::from_prompts({{1, 2}}), limits);
  CHECK_THROWS_AS(simulate(scheduler, llama_on_a100(), std::vector<std::int32_t>{}, {}), InvalidInput);
  CHECK_THROWS_AS(simulate(scheduler, llama_on_a100(), std::vector<std::int32_t>{0}, {}), InvalidInput);
}

TEST_CASE("what is generated is no token of a prompt, and is each request's own") {
  StepPlan plan;
  plan.sample_ids = {0, 1, 0};
  plan.sample_positions = {0, 4, 9};
  const std::vector<std::int32_t> lens{10, 10};
  SimulatedExecutor executor(lens);
  const auto sampled = executor.run(plan);
  CHECK(sampled[0] < 0);
  CHECK(sampled[1] < 0);
  CHECK(sampled[0] != sampled[1]);
  CHECK(sampled[2] == SimulatedExecutor::kStopToken);
}

TEST_CASE("one slow step does not make the rest of a timeline coarse") {
  Timeline timeline(64);
  for (int step = 0; step < 1000; ++step) timeline.add({.duration_s = step == 10 ? 200.0 : 1.0, .num_steps = 1});
  std::int64_t num_steps = 0;
  int num_long = 0;
  for (const TimelineBin& bin : timeline.bins()) {
    num_steps += bin.num_steps;
    num_long += bin.duration_s >= 100.0 ? 1 : 0;
  }
  CHECK(num_steps == 1000);
  CHECK(num_long == 1);
}
