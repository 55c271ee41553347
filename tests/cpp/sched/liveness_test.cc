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

TEST_CASE("a prefix that a request waits to read outlives what nobody waits for") {
  const std::vector<Token> shared = iota(8);
  const Prompts prompts{joined(shared, iota(5, 100)), iota(9, 50), iota(17, 70), joined(shared, iota(5, 200))};
  const SchedulerConfig config = one_at_a_time(/*num_blocks=*/8);
  const auto scheduler = planned_scheduler(prompts, config);
  add(*scheduler, prompts, 1);
  drain(*scheduler);
  CHECK(scheduler->row(3).num_cached == 8);
  CHECK(scheduler->stats().num_evicted_blocks == 0);
  CHECK(scheduler->stats().num_dead_blocks == 1 + 2 + 4 + 3);
  scheduler->verify();

  const auto by_age = make_scheduler(config);
  add(*by_age, prompts, 1);
  drain(*by_age);
  CHECK(by_age->row(3).num_cached == 4);
  CHECK(by_age->stats().num_evicted_blocks > 0);
}

TEST_CASE("a cancelled request keeps nothing alive") {
  const Prompts prompts{iota(9), iota(9)};
  const auto scheduler = planned_scheduler(prompts, one_at_a_time(50));
  add(*scheduler, prompts, 1);
  scheduler->stop(1);
  finish_next(*scheduler);
  CHECK(scheduler->stats().num_dead_blocks == 2);
}

TEST_CASE("of requests beyond the plan nothing is known to be dead") {
  const Prompts prompts{iota(9)};
  const auto scheduler = planned_scheduler(prompts, one_at_a_time(50));
  add(*scheduler, prompts, 1);
  add(*scheduler, {iota(9, 50)}, 1);
  drain(*scheduler);
  CHECK(num_cached_blocks(*scheduler) == 4);
  CHECK(scheduler->stats().num_dead_blocks == 2);
}

TEST_CASE("a request beyond the plan reads what one of the plan computes") {
  const Prompts prompts{iota(9)};
  SchedulerConfig config = one_at_a_time(50);
  config.max_batch_requests = 2;
  const auto scheduler = planned_scheduler(prompts, config);
  add(*scheduler, prompts, 1);
  add(*scheduler, prompts, 1);
  drain(*scheduler);
  CHECK(scheduler->stats().num_joined_tokens == 8);
}

TEST_CASE("what nobody waits for is cached until the cache is full, and again once nobody waits") {
  const Prompts prompts{iota(9, 100), iota(9, 200), iota(9, 300), iota(9, 400), iota(9, 500)};
  const auto scheduler = planned_scheduler(prompts, one_at_a_time(/*num_blocks=*/6));
  add(*scheduler, prompts, 1);
  const auto is_cached = [&](std::size_t i) {
    const auto first = std::to_string(prompts[i].front());
    return scheduler->cache().to_string().find("tokens " + first) != std::string::npos;
  };
  for (int i = 0; i < 3; ++i) finish_next(*scheduler);  // the third needs three blocks of two free ones
  CHECK(is_cached(0));
  CHECK(is_cached(1));
  CHECK_FALSE(is_cached(2));
  drain(*scheduler);
  CHECK_FALSE(is_cached(3));
  CHECK(is_cached(4));
  CHECK(scheduler->stats().num_dead_blocks == 10);
}

TEST_CASE("a scheduler goes on with what another has cached") {
  const Prompts prompts{iota(9), joined(iota(8), iota(6, 100))};
  const auto first = planned_scheduler({prompts[0]}, one_at_a_time(50));
  add(*first, {prompts[0]}, 1);
  const auto second = planned_scheduler({prompts[1]}, one_at_a_time(50));
  const auto plan = first->schedule();
  CHECK_THROWS_WITH(second->take_over_cache(*first), Catch::Contains("while requests hold 3 of its blocks"));
  first->update(*plan, zeros_for(*plan));
  second->take_over_cache(*first);
  CHECK(first->stats().num_dead_blocks == 2);
  CHECK(second->stats().num_dead_blocks == 0);
  add(*second, {prompts[1]}, 1);
  drain(*second);
  CHECK(second->row(0).num_cached == 8);
  second->verify();
  first->verify();

  CHECK_THROWS_WITH(second->take_over_cache(*first), Catch::Contains("before the first step only"));
  const auto smaller = make_scheduler(one_at_a_time(5));
  CHECK_THROWS_WITH(smaller->take_over_cache(*first), Catch::Contains("a cache of 50 blocks of 4 tokens"));
}

TEST_CASE("nothing is dead that would be hit") {
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
    num_dead_blocks += keeps_live->stats().num_dead_blocks;
  }
  CHECK(num_dead_blocks > 10000);
}

TEST_CASE("a tree order that is none is refused") {
  CHECK_THROWS_WITH(WaitingNeighbours(std::vector<RequestId>{0, 2}), Catch::Contains("tree_order has 2 at 1"));
  CHECK_THROWS_WITH(WaitingNeighbours(std::vector<RequestId>{0, 0}), Catch::Contains("every id from 0 to 1 once"));
}
