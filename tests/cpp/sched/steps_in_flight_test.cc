// Planning a step while the one before it runs. The random schedules (random_schedule_test.cc) do it too.

#include <catch2/catch.hpp>

#include "sched/builders.h"

using namespace blendserve;
using namespace blendserve::testing;

namespace {

SchedulerConfig two_in_flight(std::int64_t num_blocks = 50) {
  return {.num_blocks = num_blocks,
          .block_size = 4,
          .max_batch_tokens = 64,
          .max_batch_requests = 8,
          .max_steps_in_flight = 2};
}

constexpr Token kStop = 9;

}  // namespace

TEST_CASE("a step planned ahead gets the tokens it lacks when the step before it is updated") {
  const auto scheduler = make_scheduler(two_in_flight());
  add(*scheduler, {iota(5), iota(6, 100)}, 3);
  const auto first = scheduler->schedule();
  const auto second = scheduler->schedule();
  REQUIRE(second != nullptr);
  CHECK(second->token_ids == std::vector<Token>(2, StepPlan::kPendingToken));
  CHECK(second->sample_positions == std::vector<std::int32_t>{1, 1});
  CHECK(second->positions == std::vector<std::int32_t>{5, 6});
  CHECK_THROWS_WITH(scheduler->schedule(), Catch::Contains("step 0 is in flight"));
  CHECK_THROWS_WITH(scheduler->update(*second, zeros_for(*second)), Catch::Contains("in order"));

  scheduler->update(*first, std::vector<Token>{7, 8});
  CHECK(second->token_ids == std::vector<Token>{7, 8});
  scheduler->verify();
}

TEST_CASE("a step planned ahead leaves out what ends at its limit") {
  const auto scheduler = make_scheduler(two_in_flight());
  add(*scheduler, {iota(5)}, 1);
  const auto first = scheduler->schedule();
  CHECK(scheduler->schedule() == nullptr);
  CHECK(scheduler->update(*first, std::vector<Token>{7}) == std::vector<RequestId>{0});
  CHECK(scheduler->schedule() == nullptr);
}

TEST_CASE("a stop token takes effect one step late, and the token behind it is thrown away") {
  const auto scheduler = make_scheduler(two_in_flight());
  const std::int32_t stop_set = scheduler->add_stop_set({kStop});
  add(*scheduler, {iota(5), iota(5, 100)}, 4, stop_set);
  const auto first = scheduler->schedule();
  const auto second = scheduler->schedule();
  CHECK(scheduler->update(*first, std::vector<Token>{kStop, 1}) == std::vector<RequestId>{0});
  CHECK(second->request_ids == std::vector<RequestId>{0, 1});
  const auto third = scheduler->schedule();
  CHECK(third->request_ids == std::vector<RequestId>{1});
  CHECK(scheduler->update(*second, std::vector<Token>{3, 2}).empty());
  CHECK(scheduler->row(0).output == std::vector<Token>{kStop});
  CHECK(scheduler->row(1).output == std::vector<Token>{1, 2});
  CHECK(scheduler->stats().num_wasted_tokens == 1);
  CHECK(scheduler->stats().num_output_tokens == 3);
  scheduler->verify();
}

TEST_CASE("nobody is preempted while a step is in flight") {
  const auto scheduler = make_scheduler(two_in_flight(/*num_blocks=*/5));
  add(*scheduler, {iota(8), iota(8, 100)}, 4);
  const auto first = scheduler->schedule();
  REQUIRE(first->request_ids.size() == 2);
  CHECK(scheduler->schedule() == nullptr);
  scheduler->update(*first, zeros_for(*first));
  REQUIRE(scheduler->schedule() != nullptr);
  CHECK(scheduler->stats().num_preemptions == 1);
}

TEST_CASE("a step that fails takes the one planned behind it along") {
  const auto scheduler = make_scheduler(two_in_flight());
  add(*scheduler, {iota(5)}, 3);
  const auto first = scheduler->schedule();
  REQUIRE(scheduler->schedule() != nullptr);
  scheduler->abort_step(*first);
  scheduler->verify();
  CHECK(scheduler->num_running() == 0);
  CHECK(drain(*scheduler) == 3);
  CHECK(scheduler->row(0).output.size() == 3);
}

TEST_CASE("a request can be stopped while it decodes in a step in flight, not while its prompt is computed") {
  const auto scheduler = make_scheduler(two_in_flight());
  add(*scheduler, {iota(5), iota(5, 100)}, 4);
  const auto first = scheduler->schedule();
  CHECK_THROWS_WITH(scheduler->stop(0), Catch::Contains("the prompt of request 0"));
  const auto second = scheduler->schedule();
  scheduler->update(*first, zeros_for(*first));
  scheduler->stop(0);
  scheduler->verify();
  CHECK(scheduler->update(*second, zeros_for(*second)).empty());
  CHECK(scheduler->row(0).output.size() == 1);
  CHECK(scheduler->row(1).output.size() == 2);
}
