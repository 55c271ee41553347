// Property tests: whatever the configuration, order, shortage of blocks, failing steps and cancellations, every request
// gets the tokens the model would give it alone and, if it asks, the scores of its prompt, and the block pool and
// prefix tree stay sound.

#include <algorithm>
#include <catch2/catch.hpp>
#include <deque>
#include <memory>
#include <random>

#include "sched/builders.h"
#include "sched/token_executor.h"

using namespace blendserve;
using namespace blendserve::testing;

namespace {

struct Job {
  std::vector<std::vector<Token>> prompts;
  std::vector<LengthLimits> limits;
  std::vector<std::int32_t> prompt_logprobs;
};

int uniform(std::mt19937& rng, int low, int high) { return std::uniform_int_distribution<int>(low, high)(rng); }

// Prompts that extend prefixes of one another, duplicates among them.
Job random_job(std::mt19937& rng, std::int32_t capacity) {
  Job job;
  const int num_requests = uniform(rng, 1, 40);
  for (int i = 0; i < num_requests; ++i) {
    std::vector<Token> prompt;
    if (!job.prompts.empty() && uniform(rng, 0, 3) > 0) {
      const auto& other = job.prompts[static_cast<std::size_t>(uniform(rng, 0, i - 1))];
      prompt.assign(other.begin(), other.begin() + uniform(rng, 0, static_cast<int>(other.size())));
    }
    const int extra = uniform(rng, prompt.empty() ? 1 : 0, capacity / 4);
    for (int k = 0; k < extra; ++k) prompt.push_back(uniform(rng, 0, 3));
    prompt.resize(std::min<std::size_t>(prompt.size(), static_cast<std::size_t>(capacity / 2)));
    job.prompts.push_back(prompt);
    const bool is_prompt_alone = uniform(rng, 0, 4) == 0;
    job.limits.push_back({is_prompt_alone ? 0 : uniform(rng, 1, capacity / 2 - 1), uniform(rng, 0, 1)});
    job.prompt_logprobs.push_back(uniform(rng, -1, 1));
  }
  return job;
}

void check_scores(const StepScheduler& scheduler, TokenExecutor& executor, const StepPlan& plan) {
  for (std::size_t s = 0; s < plan.request_ids.size(); ++s) {
    const Request& request = scheduler.row(plan.request_ids[s]).request;
    if (request.scores_prompt()) executor.check_scores(plan, s, request.prompt);
  }
}

void check_answers(const StepScheduler& scheduler, const TokenExecutor& executor, const Job& job, Token stop_token,
                   const std::vector<bool>& was_stopped) {
  for (std::size_t i = 0; i < job.prompts.size(); ++i) {
    const RequestRow& row = scheduler.row(static_cast<RequestId>(i));
    auto expected = executor.generate(job.prompts[i], job.limits[i].max_new_tokens);
    FinishReason reason = FinishReason::kLength;
    if (job.limits[i].stop_set != 0) {
      const auto stop = std::ranges::find(expected, stop_token);
      if (stop != expected.end()) {
        expected.erase(stop + 1, expected.end());
        reason = FinishReason::kStopToken;
      }
    }
    if (was_stopped[i]) {
      REQUIRE(row.finish_reason == FinishReason::kStopped);
      REQUIRE(row.output.size() <= expected.size());
      expected.resize(row.output.size());
    } else {
      REQUIRE(row.finish_reason == reason);
    }
    REQUIRE(row.output == expected);
  }
}

void check_limits(const StepPlan& plan, const SchedulerConfig& config) {
  REQUIRE(static_cast<std::int32_t>(plan.token_ids.size()) <= config.max_batch_tokens);
  REQUIRE(static_cast<std::int32_t>(plan.request_ids.size()) <= config.max_batch_requests);
  REQUIRE(static_cast<std::int32_t>(plan.prompt_logit_rows.size()) <= config.max_prompt_logits);
}

bool can_be_stopped(const RequestRow& row, bool is_step_in_flight) {
  if (row.status >= RequestStatus::kFinished) return false;
  return !is_step_in_flight || row.sequence == nullptr || row.sequence->is_decoding;
}

SchedulerStats run_random_job(std::uint32_t seed) {
  std::mt19937 rng(seed);
  const std::int32_t block_size = uniform(rng, 1, 5);
  const std::int64_t num_blocks = uniform(rng, 8, 60);
  const auto capacity = static_cast<std::int32_t>(num_blocks * block_size);
  SchedulerConfig config;
  config.num_blocks = num_blocks;
  config.block_size = block_size;
  config.max_batch_requests = uniform(rng, 1, 12);
  config.max_batch_tokens = uniform(rng, config.max_batch_requests, 40);
  if (uniform(rng, 0, 1) == 1) config.max_chunk_tokens = uniform(rng, 1, 10);
  if (uniform(rng, 0, 1) == 1) config.max_prompt_logits = uniform(rng, 1, 10);
  config.max_waiting_readers = uniform(rng, 0, 5);
  config.max_steps_in_flight = uniform(rng, 1, 2);
  const auto order = static_cast<StaticOrder>(uniform(rng, 0, 2));
  const Token stop_token = 2;
  const Job job = random_job(rng, capacity);
  const bool has_faults = uniform(rng, 0, 1) == 1;
  const bool is_planned = uniform(rng, 0, 1) == 1;

  auto scheduler = make_scheduler(config, order, is_planned ? tree_order_of(job.prompts) : std::vector<RequestId>{});
  TokenExecutor executor(num_blocks, block_size, /*vocab_size=*/8);
  REQUIRE(scheduler->add_stop_set({stop_token}) == 1);
  const auto half = job.prompts.size() / 2;
  const auto add_range = [&](std::size_t begin, std::size_t end) {
    const std::vector<std::vector<Token>> prompts(job.prompts.begin() + static_cast<std::ptrdiff_t>(begin),
                                                  job.prompts.begin() + static_cast<std::ptrdiff_t>(end));
    scheduler->add_requests(Workload::from_prompts(prompts), std::span(job.limits).subspan(begin, end - begin),
                            std::span(job.prompt_logprobs).subspan(begin, end - begin));
  };
  add_range(0, half);

  std::vector<bool> was_stopped(job.prompts.size(), false);
  bool is_second_half_in = false;
  int num_steps = 0;
  std::deque<std::shared_ptr<const StepPlan>> in_flight;
  while (true) {
    while (static_cast<std::int32_t>(in_flight.size()) < config.max_steps_in_flight) {
      auto next = scheduler->schedule();
      if (next == nullptr) break;
      check_limits(*next, config);
      in_flight.push_back(std::move(next));
    }
    const auto plan = in_flight.empty() ? nullptr : in_flight.front();
    if (plan == nullptr && is_second_half_in) break;
    if (plan != nullptr) {
      in_flight.pop_front();
      const auto sampled = executor.run(*plan);
      check_scores(*scheduler, executor, *plan);
      if (has_faults && uniform(rng, 0, 9) == 0) {
        scheduler->abort_step(*plan);
        in_flight.clear();
      } else {
        scheduler->update(*plan, sampled);
      }
    }
    if (has_faults && uniform(rng, 0, 9) == 0) {
      const auto id = static_cast<RequestId>(
          uniform(rng, 0, static_cast<int>(scheduler->num_requests()) - 1 + (half == 0 && !is_second_half_in)));
      if (id < scheduler->num_requests() && can_be_stopped(scheduler->row(id), !in_flight.empty())) {
        scheduler->stop(id);
        was_stopped[static_cast<std::size_t>(id)] = true;
      }
    }
    scheduler->verify();
    if (!is_second_half_in && (plan == nullptr || num_steps > 5)) {
      add_range(half, job.prompts.size());
      is_second_half_in = true;
    }
    ++num_steps;
    REQUIRE(num_steps < 100000);
  }
  check_answers(*scheduler, executor, job, stop_token, was_stopped);
  REQUIRE(scheduler->num_running() == 0);
  REQUIRE(scheduler->cache().num_available() == num_blocks);
  return scheduler->stats();
}

}  // namespace

TEST_CASE("random jobs get the answers the model gives alone, and every block is free at the end") {
  SchedulerStats total;
  for (std::uint32_t seed = 0; seed < 2000; ++seed) {
    INFO("seed " << seed);
    const SchedulerStats stats = run_random_job(seed);
    total += stats;
  }
  CHECK(total.num_cached_tokens > 10000);
  CHECK(total.num_wasted_tokens > 100);
  CHECK(total.num_dead_blocks > 1000);
  CHECK(total.num_preemptions > 1000);
  CHECK(total.num_recomputed_tokens > 10000);
}
