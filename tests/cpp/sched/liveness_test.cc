// What a job known up front keeps cached: the prefixes that a request still waits to read, and nothing else.

#include <algorithm>
#include <catch2/catch.hpp>
#include <random>

#include "sched/builders.h"
#include "sched/waiting_neighbours.h"

using namespace blendserve;
using namespace blendserve::testing;

namespace {

using Prompts = std::vector<std::vector<Token>>;

std::unique_ptr<StepScheduler> planned_scheduler(const Prompts& prompts, const SchedulerConfig& config) {
  return make_scheduler(config, StaticOrder::kFcfs, tree_order_of(prompts));
}

SchedulerConfig one_at_a_time(std::int64_t num_blocks) {
  return {.num_blocks = num_blocks, .block_size = 4, .max_batch_tokens = 64, .max_batch_requests = 1};
}

void finish_next(StepScheduler& scheduler) {
  const auto plan = scheduler.schedule();
  REQUIRE(plan != nullptr);
  scheduler.update(*plan, zeros_for(*plan));
}

std::int64_t num_cached_blocks(const StepScheduler& scheduler) {
  const std::string tree = scheduler.cache().to_string();
  return std::ranges::count(tree, '\n');
}

std::vector<Token> joined(std::vector<Token> head, const std::vector<Token>& tail) {
  head.insert(head.end(), tail.begin(), tail.end());
  return head;
}

Prompts random_prompts(std::mt19937& rng) {
  std::uniform_int_distribution<int> token(1, 3);  // never the one that is sampled
  Prompts prompts;
  for (int i = 0; i < 60; ++i) {
    std::vector<Token> prompt;
    if (i > 0 && token(rng) > 1) {
      const auto& other = prompts[std::uniform_int_distribution<std::size_t>(0, prompts.size() - 1)(rng)];
      prompt.assign(other.begin(),
                    other.begin() + std::uniform_int_distribution<std::ptrdiff_t>(0, std::ssize(other))(rng));
    }
    const int extra = std::uniform_int_distribution<int>(1, 12)(rng);
    for (int k = 0; k < extra; ++k) prompt.push_back(token(rng));
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

}  // namespace

TEST_CASE("a prefix stays cached while a request waits to read it") {
  const std::vector<Token> shared = iota(8);
  const Prompts prompts{joined(shared, iota(5, 100)), iota(9, 50), joined(shared, iota(5, 200))};
  const auto scheduler = planned_scheduler(prompts, one_at_a_time(50));
  add(*scheduler, prompts, 1);

  finish_next(*scheduler);
  CHECK(num_cached_blocks(*scheduler) == 2);  // of three full ones
  finish_next(*scheduler);
  CHECK(num_cached_blocks(*scheduler) == 2);
  finish_next(*scheduler);
  CHECK(scheduler->row(2).num_cached == 8);
  CHECK(num_cached_blocks(*scheduler) == 0);
  CHECK(scheduler->stats().num_dead_blocks == 1 + 2 + 3);
  scheduler->verify();
}

TEST_CASE("a cancelled request keeps nothing alive") {
  const Prompts prompts{iota(9), iota(9)};
  const auto scheduler = planned_scheduler(prompts, one_at_a_time(50));
  add(*scheduler, prompts, 1);
  scheduler->stop(1);
  finish_next(*scheduler);
  CHECK(num_cached_blocks(*scheduler) == 0);
}

TEST_CASE("requests beyond the plan leave what they computed to the eviction") {
  const Prompts prompts{iota(9)};
  const auto scheduler = planned_scheduler(prompts, one_at_a_time(50));
  add(*scheduler, prompts, 1);
  add(*scheduler, {iota(9, 50)}, 1);
  drain(*scheduler);
  CHECK(num_cached_blocks(*scheduler) == 2);
  CHECK(scheduler->stats().num_dead_blocks == 2);
}

TEST_CASE("nothing that would be hit is given back") {
  std::int64_t num_dead_blocks = 0;
  for (std::uint32_t seed = 0; seed < 200; ++seed) {
    std::mt19937 rng(seed);
    const Prompts prompts = random_prompts(rng);
    SchedulerConfig config{.num_blocks = 5000, .block_size = 2, .max_batch_tokens = 40};
    config.max_batch_requests = std::uniform_int_distribution<int>(1, 8)(rng);
    const auto keeps_all = make_scheduler(config);
    const auto keeps_live = planned_scheduler(prompts, config);
    for (const auto& scheduler : {keeps_all.get(), keeps_live.get()}) {
      add(*scheduler, prompts, 3);
      drain(*scheduler);
      scheduler->verify();
    }
    REQUIRE(keeps_live->stats().num_cached_tokens == keeps_all->stats().num_cached_tokens);
    REQUIRE(keeps_live->stats().num_joined_tokens == keeps_all->stats().num_joined_tokens);
    REQUIRE(num_cached_blocks(*keeps_live) == 0);
    num_dead_blocks += keeps_live->stats().num_dead_blocks;
  }
  CHECK(num_dead_blocks > 10000);
}

TEST_CASE("a tree order that is none is refused") {
  CHECK_THROWS_WITH(WaitingNeighbours(std::vector<RequestId>{0, 2}), Catch::Contains("tree_order has 2 at 1"));
  CHECK_THROWS_WITH(WaitingNeighbours(std::vector<RequestId>{0, 0}), Catch::Contains("every id from 0 to 1 once"));
}
