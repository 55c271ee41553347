// The paper's policy under the real scheduler: whatever the estimates, the shortage of blocks, failing steps and
// cancellations, no request waits for ever, every one gets its answer, and the same job runs the same way again.

#include <algorithm>
#include <catch2/catch.hpp>
#include <random>

#include "plan/planned_job.h"
#include "policy/paper_policy.h"
#include "sched/step_scheduler.h"
#include "sched/token_executor.h"

using namespace blendserve;
using namespace blendserve::testing;

namespace {

int uniform(std::mt19937& rng, int low, int high) { return std::uniform_int_distribution<int>(low, high)(rng); }

struct Outcome {
  std::vector<RequestId> finished;  // in this order
  SchedulerStats stats;

  friend bool operator==(const Outcome& a, const Outcome& b) {
    return a.finished == b.finished && a.stats.num_steps == b.stats.num_steps;
  }
};

struct Job {
  Prompts prompts;
  std::vector<double> expected;  // output lengths, as the plan knows them
  std::vector<LengthLimits> limits;

  Job(std::mt19937& rng, std::int32_t capacity)
      : prompts(random_prompts(rng(), uniform(rng, 1, 40), capacity / 6, uniform(rng, 1, 4))) {
    const int kind = uniform(rng, 0, 4);
    for (auto& prompt : prompts) {
      if (prompt.empty()) prompt.push_back(0);
      prompt.resize(std::min<std::size_t>(prompt.size(), static_cast<std::size_t>(capacity / 2)));
      const int len = kind == 0 ? 1 : uniform(rng, 1, uniform(rng, 0, 1) == 0 ? 3 : capacity / 2 - 1);
      limits.push_back({len, 0});
      expected.push_back(estimate(rng, kind, len));
    }
  }

  // As it is, nothing at all, unknown, all alike, or anything.
  static double estimate(std::mt19937& rng, int kind, int len) {
    switch (kind) {
      case 0:
        return 0;
      case 1:
        return len;
      case 2:
        return uniform(rng, 0, 1) == 0 ? kUnknownLength : len;
      case 3:
        return 7;
      default:
        return uniform(rng, 0, 1'000'000);
    }
  }
};

SchedulerConfig random_config(std::mt19937& rng) {
  SchedulerConfig config;
  config.block_size = uniform(rng, 1, 5);
  config.num_blocks = uniform(rng, 8, 60);
  config.max_batch_requests = uniform(rng, 1, 12);
  config.max_batch_tokens = uniform(rng, config.max_batch_requests, 40);
  config.max_waiting_readers = uniform(rng, 0, 5);
  return config;
}

Outcome run_random_job(std::uint32_t seed) {
  std::mt19937 rng(seed);
  const SchedulerConfig config = random_config(rng);
  const auto capacity = static_cast<std::int32_t>(config.num_blocks * config.block_size);
  Job job(rng, capacity);
  const bool has_faults = uniform(rng, 0, 1) == 1;
  ThreadPool pool(1);
  const auto tree = PrefixTree::build(Workload::from_prompts(job.prompts), pool);
  const auto plan = Plan::make(tree, {.lengths = job.expected}, simple_model(seed % 3 == 0), {}, 0.0);
  StepScheduler scheduler(config, std::make_unique<PaperPolicy>(plan, capacity));
  TokenExecutor executor(config.num_blocks, config.block_size, /*vocab_size=*/8);
  scheduler.add_requests(tree.windows().front(), job.limits);
  int num_late = uniform(rng, 0, 3);

  Outcome outcome;
  std::vector<bool> was_stopped(job.prompts.size() + 3, false);
  for (int num_steps = 0;; ++num_steps) {
    REQUIRE(num_steps < 100'000);
    const auto step = scheduler.schedule();
    if (step == nullptr) {
      REQUIRE(scheduler.num_unfinished() == 0);  // it never stalls
      if (num_late == 0) break;
    } else if (const auto sampled = executor.run(*step); has_faults && uniform(rng, 0, 9) == 0) {
      scheduler.abort_step(*step);
    } else {
      const auto& finished = scheduler.update(*step, sampled);
      outcome.finished.insert(outcome.finished.end(), finished.begin(), finished.end());
    }
    scheduler.verify();
    if (num_late > 0 && uniform(rng, 0, 3) == 0) {
      --num_late;
      job.prompts.push_back(job.prompts.front());
      job.limits.push_back({2, 0});
      scheduler.add_requests(Workload::from_prompts({job.prompts.back()}), std::span(job.limits).last(1));
    }
    if (has_faults && uniform(rng, 0, 9) == 0) {
      const auto id = static_cast<RequestId>(uniform(rng, 0, static_cast<int>(scheduler.num_requests()) - 1));
      if (scheduler.row(id).status < RequestStatus::kFinished) was_stopped[static_cast<std::size_t>(id)] = true;
      scheduler.stop(id);
    }
  }
  for (std::size_t i = 0; i < job.prompts.size(); ++i) {
    auto expected = executor.generate(job.prompts[i], job.limits[i].max_new_tokens);
    const RequestRow& row = scheduler.row(static_cast<RequestId>(i));
    if (was_stopped[i]) expected.resize(row.output.size());
    REQUIRE(row.output == expected);
    REQUIRE(row.finish_reason == (was_stopped[i] ? FinishReason::kStopped : FinishReason::kLength));
  }
  REQUIRE(scheduler.cache().num_available() == config.num_blocks);
  outcome.stats = scheduler.stats();
  return outcome;
}

}  // namespace

TEST_CASE("random planned jobs never stall and get the answers the model gives alone") {
  SchedulerStats total;
  for (std::uint32_t seed = 0; seed < 1500; ++seed) {
    INFO("seed " << seed);
    const Outcome outcome = run_random_job(seed);
    total.num_cached_tokens += outcome.stats.num_cached_tokens;
    total.num_preemptions += outcome.stats.num_preemptions;
    if (seed % 10 == 0) CHECK(run_random_job(seed) == outcome);
  }
  CHECK(total.num_cached_tokens > 10'000);
  CHECK(total.num_preemptions > 1000);
}
