#include "sched/step_scheduler.h"

#include <catch2/catch.hpp>

#include "base/error.h"
#include "sched/builders.h"

using namespace blendserve;
using namespace blendserve::testing;

namespace {

std::vector<Token> concat(std::vector<Token> a, const std::vector<Token>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

SchedulerConfig small_config() {
  SchedulerConfig config;
  config.num_blocks = 64;
  config.block_size = 4;
  config.max_batch_tokens = 64;
  config.max_batch_requests = 16;
  config.watermark = 0.0;
  return config;
}

std::int32_t num_tokens_of(const StepPlan& plan, RequestId id) {
  for (std::size_t s = 0; s < plan.request_ids.size(); ++s) {
    if (plan.request_ids[s] == id) return plan.qo_indptr[s + 1] - plan.qo_indptr[s];
  }
  return 0;
}

}  // namespace

TEST_CASE("a prompt is computed in one step and its last chunk yields the first token") {
  auto scheduler = make_scheduler(small_config());
  add(*scheduler, {iota(6)}, 2);
  const StepPlan first = *scheduler->schedule();
  CHECK(first.token_ids == iota(6));
  CHECK(first.positions == std::vector<std::int32_t>{0, 1, 2, 3, 4, 5});
  CHECK(first.slot_mapping == std::vector<std::int64_t>{0, 1, 2, 3, 4, 5});
  CHECK(first.kv_lens == std::vector<std::int32_t>{6});
  CHECK(first.block_table == std::vector<BlockId>{0, 1});
  CHECK(first.logit_rows == std::vector<std::int32_t>{5});
  CHECK(first.sample_positions == std::vector<std::int32_t>{0});
  CHECK(scheduler->update(first, std::vector<Token>{9}).empty());

  const StepPlan second = *scheduler->schedule();
  CHECK(second.token_ids == std::vector<Token>{9});
  CHECK(second.positions == std::vector<std::int32_t>{6});
  CHECK(second.slot_mapping == std::vector<std::int64_t>{6});
  CHECK(second.sample_positions == std::vector<std::int32_t>{1});
  CHECK(scheduler->update(second, std::vector<Token>{8}) == std::vector<RequestId>{0});
  CHECK(scheduler->row(0).output == std::vector<Token>{9, 8});
  CHECK(scheduler->row(0).finish_reason == FinishReason::kLength);
  CHECK(scheduler->schedule() == nullptr);
}

TEST_CASE("a long prompt is cut into chunks of the token budget, after the decodes") {
  auto config = small_config();
  config.max_batch_tokens = 8;
  config.max_batch_requests = 8;
  auto scheduler = make_scheduler(config);
  add(*scheduler, {iota(3, 100), iota(20)}, 10);
  StepPlan plan = *scheduler->schedule();
  CHECK(num_tokens_of(plan, 0) == 3);
  CHECK(num_tokens_of(plan, 1) == 5);
  CHECK(plan.sample_ids == std::vector<RequestId>{0});
  scheduler->update(plan, zeros_for(plan));
  plan = *scheduler->schedule();
  CHECK(plan.request_ids == std::vector<RequestId>{0, 1});
  CHECK(num_tokens_of(plan, 0) == 1);
  CHECK(num_tokens_of(plan, 1) == 7);
  scheduler->update(plan, zeros_for(plan));
  drain(*scheduler);
  CHECK(scheduler->stats().num_output_tokens == 20);
}

TEST_CASE("A, AB and ABC in one step: each prefix is computed once and read by the next") {
  auto scheduler = make_scheduler(small_config());
  const auto a = iota(8);
  const auto ab = concat(a, iota(8, 20));
  const auto abc = concat(ab, iota(8, 40));
  add(*scheduler, {a, ab, abc}, 1);
  const StepPlan plan = *scheduler->schedule();
  CHECK(plan.request_ids == std::vector<RequestId>{0, 1, 2});
  CHECK(plan.qo_indptr == std::vector<std::int32_t>{0, 8, 16, 24});
  CHECK(plan.block_table == std::vector<BlockId>{0, 1, 0, 1, 2, 3, 0, 1, 2, 3, 4, 5});
  CHECK(scheduler->row(2).num_cached == 16);
  CHECK(scheduler->update(plan, zeros_for(plan)).size() == 3);
  CHECK(scheduler->stats().num_cached_tokens == 24);
  scheduler->verify();
}

TEST_CASE("a writer cut by the chunk budget: its reader waits, others fill the budget, nothing is computed twice") {
  auto config = small_config();
  config.max_batch_tokens = 16;
  auto scheduler = make_scheduler(config);
  const auto shared = iota(24);
  add(*scheduler, {shared, concat(shared, {90, 91}), iota(4, 200)}, 4);
  StepPlan plan = *scheduler->schedule();
  CHECK(plan.request_ids == std::vector<RequestId>{0});
  scheduler->update(plan, zeros_for(plan));

  plan = *scheduler->schedule();  // the writer's last 8 tokens complete the prefix within this step
  CHECK(plan.request_ids == std::vector<RequestId>{0, 1, 2});
  CHECK(num_tokens_of(plan, 0) == 8);
  CHECK(num_tokens_of(plan, 1) == 2);
  CHECK(num_tokens_of(plan, 2) == 4);
  scheduler->update(plan, zeros_for(plan));
  drain(*scheduler);
  CHECK(scheduler->row(1).num_cached == 24);
}

TEST_CASE("while a prefix is being computed, its readers stand aside for requests that need none") {
  auto config = small_config();
  config.max_batch_tokens = 16;
  config.max_chunk_tokens = 8;
  auto scheduler = make_scheduler(config);
  const auto shared = iota(20);
  add(*scheduler, {shared, concat(shared, {90}), concat(shared, {91}), iota(12, 200)}, 8);
  auto plan = scheduler->schedule();
  CHECK(plan->request_ids == std::vector<RequestId>{0, 3});
  CHECK(num_tokens_of(*plan, 0) == 8);
  CHECK(num_tokens_of(*plan, 3) == 8);
  CHECK(scheduler->row(1).status == RequestStatus::kTaken);
  scheduler->update(*plan, zeros_for(*plan));
  plan = scheduler->schedule();
  CHECK(plan->request_ids == std::vector<RequestId>{0, 3});
  scheduler->update(*plan, zeros_for(*plan));
  plan = scheduler->schedule();  // the writer's last chunk: both readers run beside it
  CHECK(plan->request_ids == std::vector<RequestId>{3, 0, 1, 2});
  CHECK(num_tokens_of(*plan, 0) == 4);
  CHECK(num_tokens_of(*plan, 1) == 1);
  scheduler->update(*plan, zeros_for(*plan));
  drain(*scheduler);
  CHECK(scheduler->stats().num_cached_tokens == 40);
}

TEST_CASE("a stopped writer's pending blocks are void and its reader takes over") {
  auto config = small_config();
  config.max_batch_tokens = 16;
  auto scheduler = make_scheduler(config);
  const auto shared = iota(40);
  add(*scheduler, {shared, concat(shared, {90, 91})}, 2);
  StepPlan plan = *scheduler->schedule();
  CHECK(plan.request_ids == std::vector<RequestId>{0});
  scheduler->update(plan, zeros_for(plan));
  CHECK(scheduler->cache().to_string().find("pending for request 0") != std::string::npos);
  scheduler->stop(0);
  CHECK(scheduler->cache().to_string().find("pending") == std::string::npos);
  scheduler->verify();
  plan = *scheduler->schedule();
  CHECK(plan.request_ids == std::vector<RequestId>{1});
  CHECK(plan.positions.front() == 16);  // what the writer had computed stays
  scheduler->update(plan, zeros_for(plan));
  drain(*scheduler);
  CHECK(scheduler->row(1).finish_reason == FinishReason::kLength);
  CHECK(scheduler->row(1).num_cached == 16);
}

TEST_CASE("a failed step publishes nothing, and writer and readers run again") {
  auto scheduler = make_scheduler(small_config());
  const auto shared = iota(16);
  add(*scheduler, {shared, concat(shared, {90}), concat(shared, {91})}, 2);
  const StepPlan plan = *scheduler->schedule();
  CHECK(plan.request_ids.size() == 3);
  scheduler->abort_step(plan);
  scheduler->verify();
  CHECK(scheduler->cache().to_string().empty());
  CHECK(scheduler->cache().num_available() == 64);
  const StepPlan again = *scheduler->schedule();
  CHECK(again.request_ids == plan.request_ids);
  CHECK(again.token_ids == plan.token_ids);
  scheduler->update(again, zeros_for(again));
  drain(*scheduler);
  CHECK(scheduler->stats().num_recomputed_tokens == 0);
}

TEST_CASE("a writer preempted in the middle of its prompt: its pending blocks are void and its reader takes over") {
  auto config = small_config();
  config.num_blocks = 8;
  config.max_batch_tokens = 8;
  config.max_batch_requests = 4;
  config.max_chunk_tokens = 3;
  auto scheduler = make_scheduler(config);
  const auto shared = iota(24, 50);
  add(*scheduler, {iota(4)}, 16);             // request 0 grows to 5 blocks
  add(*scheduler, {shared}, 2);               // request 1, the writer, needs 6
  add(*scheduler, {concat(shared, {9})}, 2);  // request 2, the reader
  const auto run_until = [&](const auto& is_reached) {
    for (int num_steps = 0; !is_reached(); ++num_steps) {
      REQUIRE(num_steps < 100);
      const auto plan = scheduler->schedule();
      REQUIRE(plan != nullptr);
      scheduler->update(*plan, zeros_for(*plan));
      scheduler->verify();
    }
  };
  const auto is_pending_for = [&](const std::string& request) {
    return scheduler->cache().to_string().find("pending for request " + request) != std::string::npos;
  };
  run_until([&] { return is_pending_for("1"); });
  run_until([&] { return scheduler->stats().num_preemptions == 1; });
  CHECK(scheduler->row(1).status == RequestStatus::kWaiting);
  CHECK_FALSE(is_pending_for("1"));
  run_until([&] { return is_pending_for("2"); });
  run_until([&] { return scheduler->num_unfinished() == 0; });
  CHECK(scheduler->row(1).output.size() == 2);
  CHECK(scheduler->cache().num_available() == 8);
}

TEST_CASE("preemption keeps what was generated and counts what it computes again") {
  auto config = small_config();
  config.num_blocks = 6;
  config.max_batch_tokens = 16;
  config.max_batch_requests = 4;
  auto scheduler = make_scheduler(config);
  add(*scheduler, {iota(8), iota(8, 100)}, 12);
  std::int32_t most_output_before = 0;
  while (const auto plan = scheduler->schedule()) {
    if (scheduler->stats().num_preemptions == 1 && most_output_before == 0) {
      most_output_before = static_cast<std::int32_t>(scheduler->row(1).output.size());
    }
    scheduler->update(*plan, zeros_for(*plan));
    scheduler->verify();
  }
  CHECK(most_output_before > 0);
  CHECK(scheduler->stats().num_preemptions >= 1);
  CHECK(scheduler->stats().num_recomputed_tokens > 0);
  CHECK(scheduler->row(1).output.size() == 12);
  CHECK(scheduler->row(1).num_cached == 0);
}

TEST_CASE("a finished request's prefix stays cached until its blocks are needed, the oldest leaf first") {
  auto config = small_config();
  config.num_blocks = 4;
  config.max_batch_tokens = 16;
  auto scheduler = make_scheduler(config);
  add(*scheduler, {iota(9)}, 1);
  drain(*scheduler);
  CHECK(scheduler->cache().to_string() ==
        "block 0: computed, 0 holders, tokens 0 1 2 3\n  block 1: computed, 0 holders, tokens 4 5 6 7\n");
  add(*scheduler, {iota(9, 100)}, 1);  // takes the two free blocks and evicts the leaf
  drain(*scheduler);
  CHECK(scheduler->cache().num_evictions() == 1);
  add(*scheduler, {iota(9)}, 1);
  scheduler->update(*scheduler->schedule(), std::vector<Token>{0});
  CHECK(scheduler->row(2).num_cached == 4);
}

TEST_CASE("identical prompts share all but the last token's block") {
  auto scheduler = make_scheduler(small_config());
  add(*scheduler, {iota(8), iota(8), iota(8)}, 3);
  const StepPlan plan = *scheduler->schedule();
  CHECK(plan.qo_indptr == std::vector<std::int32_t>{0, 8, 12, 16});
  scheduler->update(plan, zeros_for(plan));
  scheduler->verify();
  drain(*scheduler);
  CHECK(scheduler->stats().num_cached_tokens == 8);
}

TEST_CASE("a stop token ends a request, and is part of its output") {
  auto scheduler = make_scheduler(small_config());
  const std::int32_t stop_set = scheduler->add_stop_set({7, 5});
  CHECK(scheduler->add_stop_set({5, 7}) == stop_set);
  add(*scheduler, {iota(3)}, 10, stop_set);
  StepPlan plan = *scheduler->schedule();
  CHECK(scheduler->update(plan, std::vector<Token>{1}).empty());
  plan = *scheduler->schedule();
  CHECK(scheduler->update(plan, std::vector<Token>{7}) == std::vector<RequestId>{0});
  CHECK(scheduler->row(0).finish_reason == FinishReason::kStopToken);
  CHECK(scheduler->row(0).output == std::vector<Token>{1, 7});
  scheduler->forget(0);
  CHECK(scheduler->row(0).output.empty());
}

TEST_CASE("what a caller gets wrong is named") {
  using Catch::Matchers::Contains;
  auto scheduler = make_scheduler(small_config());
  CHECK_THROWS_WITH(add(*scheduler, {{}}, 1), Contains("empty prompt"));
  CHECK_THROWS_WITH(add(*scheduler, {iota(3)}, -1), Contains("max_new_tokens -1"));
  CHECK_THROWS_WITH(add(*scheduler, {iota(250)}, 7), Contains("needs 257 tokens") && Contains("holds 256"));
  CHECK_THROWS_WITH(add(*scheduler, {iota(3)}, 1, 4), Contains("stop set 4"));
  CHECK(scheduler->num_requests() == 0);
  add(*scheduler, {iota(3)}, 1);
  const StepPlan plan = *scheduler->schedule();
  CHECK_THROWS_WITH(scheduler->schedule(), Contains("in flight"));
  CHECK_THROWS_WITH(scheduler->update(plan, std::vector<Token>{1, 2}), Contains("samples 1 tokens, but 2"));
  auto other = make_scheduler(small_config());
  add(*other, {iota(3), iota(4)}, 1);
  const StepPlan foreign = *other->schedule();
  CHECK(foreign.step == plan.step);
  CHECK_THROWS_WITH(scheduler->update(foreign, zeros_for(foreign)), Contains("not in flight"));
  CHECK_THROWS_WITH(scheduler->abort_step(foreign), Contains("not in flight"));
  scheduler->update(plan, std::vector<Token>{1});
  CHECK_THROWS_WITH(scheduler->update(plan, std::vector<Token>{1}), Contains("not in flight"));
  CHECK_THROWS_WITH(scheduler->row(1), Contains("no request 1"));
  auto config = small_config();
  config.max_batch_tokens = 8;
  CHECK_THROWS_WITH(make_scheduler(config), Contains("max_batch_requests is 16"));
}

TEST_CASE("a scheduler may go while a step is in flight, whose requests read one another's blocks") {
  SchedulerConfig config;
  config.num_blocks = 8;
  config.block_size = 2;
  const auto scheduler = make_scheduler(config);
  add(*scheduler, {{1, 2, 3, 4, 5, 6}, {1, 2, 3, 4, 7, 7}}, 1);
  const auto plan = scheduler->schedule();
  CHECK(plan->request_ids == std::vector<RequestId>{0, 1});
}

namespace {

RequestId add_scored(StepScheduler& scheduler, const std::vector<std::vector<Token>>& prompts,
                     std::int32_t prompt_logprobs, std::int32_t max_new_tokens = 0) {
  const std::vector<LengthLimits> limits(prompts.size(), LengthLimits{max_new_tokens, 0});
  const std::vector<std::int32_t> num_top(prompts.size(), prompt_logprobs);
  return scheduler.add_requests(Workload::from_prompts(prompts), limits, num_top);
}

}  // namespace

TEST_CASE("a request for no tokens ends with its prompt, and nothing is sampled") {
  auto config = small_config();
  config.max_batch_tokens = config.max_batch_requests = 4;
  auto scheduler = make_scheduler(config);
  add(*scheduler, {iota(5)}, 0);
  const StepPlan first = *scheduler->schedule();
  CHECK(scheduler->update(first, {}).empty());
  const StepPlan second = *scheduler->schedule();  // one token is left, as in a decode
  CHECK(second.token_ids == std::vector<Token>{4});
  CHECK((second.logit_rows.empty() && second.sample_ids.empty() && second.sample_positions.empty()));
  CHECK(scheduler->update(second, {}) == std::vector<RequestId>{0});
  CHECK(scheduler->row(0).finish_reason == FinishReason::kLength);
  CHECK(scheduler->row(0).output.empty());
  CHECK(scheduler->schedule() == nullptr);
  CHECK(scheduler->cache().num_available() == 64);
}

TEST_CASE("a scored prompt names the rows that score its tokens, each with the token behind it, over all chunks") {
  auto config = small_config();
  config.max_batch_tokens = config.max_batch_requests = 4;
  auto scheduler = make_scheduler(config);
  add_scored(*scheduler, {iota(6, 10)}, 0, 1);
  const StepPlan first = *scheduler->schedule();
  CHECK(first.prompt_logit_rows == std::vector<std::int32_t>{0, 1, 2, 3});
  CHECK(first.prompt_next_tokens == std::vector<Token>{11, 12, 13, 14});
  CHECK(first.logit_rows.empty());
  scheduler->update(first, {});
  const StepPlan second = *scheduler->schedule();
  CHECK(second.prompt_logit_rows == std::vector<std::int32_t>{0});
  CHECK(second.prompt_next_tokens == std::vector<Token>{15});
  CHECK(second.logit_rows == std::vector<std::int32_t>{1});  // the last token's logits sample
  scheduler->update(second, std::vector<Token>{7});
}

TEST_CASE("a shared prefix is scored once, by whoever computes it, also within a step") {
  auto scheduler = make_scheduler(small_config());
  const auto prefix = iota(10);  // two blocks, and two tokens that each request computes
  add_scored(*scheduler, {concat(prefix, {50}), concat(prefix, {60, 61}), concat(prefix, {70})}, 2);
  const StepPlan plan = *scheduler->schedule();
  CHECK(plan.request_ids == std::vector<RequestId>{0, 1, 2});
  CHECK((num_tokens_of(plan, 0) == 11 && num_tokens_of(plan, 1) == 4 && num_tokens_of(plan, 2) == 3));
  CHECK(plan.prompt_logit_rows.size() == 10 + 3 + 2);
  CHECK(scheduler->update(plan, {}).size() == 3);
  CHECK(scheduler->stats().num_cached_tokens == 16);
}

TEST_CASE("a block whose last score is of another token is computed again, and shared by those that agree") {
  auto scheduler = make_scheduler(small_config());
  const auto prefix = iota(8);
  add_scored(*scheduler, {concat(prefix, {50}), concat(prefix, {60, 61}), concat(prefix, {60, 62})}, 0);
  drain(*scheduler);
  // Nothing; the first block; both blocks as the second request computed them.
  CHECK(scheduler->row(0).num_cached == 0);
  CHECK(scheduler->row(1).num_cached == 4);
  CHECK(scheduler->row(2).num_cached == 8);
}

TEST_CASE("scores are read only where a request with as many log-probs computed them") {
  auto scheduler = make_scheduler(small_config());
  add(*scheduler, {iota(12)}, 1);
  drain(*scheduler);
  for (const std::int32_t num_top : {0, 3}) {
    const RequestId id = add_scored(*scheduler, {iota(12), iota(12)}, num_top);
    drain(*scheduler);
    CHECK(scheduler->row(id).num_cached == 0);
    CHECK(scheduler->row(id + 1).num_cached == 8);
  }
  const RequestId id = add(*scheduler, {iota(12)}, 1);
  drain(*scheduler);
  CHECK(scheduler->row(id).num_cached == 8);
}

TEST_CASE("a step scores no more prompt rows than the limit") {
  auto config = small_config();
  config.max_prompt_logits = 5;
  auto scheduler = make_scheduler(config);
  add_scored(*scheduler, {iota(7, 100), iota(6, 200)}, 0);
  add(*scheduler, {iota(9, 300)}, 1);
  const StepPlan first = *scheduler->schedule();
  CHECK(first.request_ids == std::vector<RequestId>{0});
  CHECK(num_tokens_of(first, 0) == 5);
  scheduler->update(first, {});
  const StepPlan second = *scheduler->schedule();
  CHECK(second.prompt_logit_rows.size() == 5);
  CHECK((num_tokens_of(second, 0) == 2 && num_tokens_of(second, 1) == 4 && num_tokens_of(second, 2) == 9));
  scheduler->update(second, zeros_for(second));
  const StepPlan third = *scheduler->schedule();
  CHECK((third.prompt_logit_rows.size() == 1 && num_tokens_of(third, 1) == 2));
  scheduler->update(third, {});
  CHECK(scheduler->schedule() == nullptr);
}

TEST_CASE("numbers of prompt log-probs that make no sense are refused") {
  auto scheduler = make_scheduler(small_config());
  CHECK_THROWS_AS(add_scored(*scheduler, {iota(3)}, -2), InvalidInput);
  const LengthLimits limits{1, 0};
  const std::vector<std::int32_t> num_top{0, 0};
  CHECK_THROWS_AS(scheduler->add_requests(Workload::from_prompts({iota(3)}), std::span(&limits, 1), num_top),
                  InvalidInput);
}
