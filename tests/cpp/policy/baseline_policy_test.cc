#include "policy/baseline_policy.h"

#include <algorithm>
#include <catch2/catch.hpp>

using namespace blendserve;

namespace {

const SchedulerView kView{.num_blocks = 10, .max_batch_tokens = 64};

std::vector<Request> requests_of(const std::vector<std::vector<Token>>& prompts, RequestId first = 0) {
  std::vector<Request> requests;
  for (const auto& prompt : prompts) requests.push_back({first++, prompt, {1, 0}});
  return requests;
}

std::vector<RequestId> take_all(BaselinePolicy& policy) {
  std::vector<RequestId> order;
  while (const auto id = policy.next(kView)) {
    policy.take(*id);
    order.push_back(*id);
  }
  return order;
}

}  // namespace

TEST_CASE("dfs walks the prefix tree: prefixes first, children in token order, ties by arrival") {
  const std::vector<std::vector<Token>> prompts{{2, 1}, {1, 5, 3}, {1}, {1, 5}, {2, 1}, {1, 4, 9}};
  BaselinePolicy policy(StaticOrder::kDfs, 0);
  policy.on_arrival(requests_of(prompts));
  CHECK(take_all(policy) == std::vector<RequestId>{2, 5, 3, 1, 0, 4});
}

TEST_CASE("random is a permutation that the seed decides") {
  const std::vector<std::vector<Token>> prompts(100, {1});
  const auto order_of = [&](std::uint64_t seed) {
    BaselinePolicy policy(StaticOrder::kRandom, seed);
    policy.on_arrival(requests_of(prompts));
    return take_all(policy);
  };
  auto order = order_of(1);
  CHECK(order == order_of(1));
  CHECK(order != order_of(2));
  CHECK_FALSE(std::ranges::is_sorted(order));
  std::ranges::sort(order);
  for (RequestId id = 0; id < 100; ++id) CHECK(order[static_cast<std::size_t>(id)] == id);
}

TEST_CASE("later arrivals are merged into what is left of the order") {
  const std::vector<std::vector<Token>> first{{5}, {1}, {3}};
  const std::vector<std::vector<Token>> later{{4}, {0}};
  BaselinePolicy policy(StaticOrder::kDfs, 0);
  policy.on_arrival(requests_of(first));
  CHECK(policy.next(kView) == 1);
  policy.take(1);
  policy.on_arrival(requests_of(later, 3));
  CHECK(take_all(policy) == std::vector<RequestId>{4, 2, 3, 0});
}

TEST_CASE("preempted requests come back first, in order, and finished ones never") {
  const std::vector<std::vector<Token>> prompts{{1}, {2}, {3}, {4}};
  BaselinePolicy policy(StaticOrder::kFcfs, 0);
  policy.on_arrival(requests_of(prompts));
  for (RequestId id : {0, 1, 2}) {
    CHECK(policy.next(kView) == id);
    policy.take(id);
  }
  policy.on_preempt(2, 8);
  policy.on_preempt(0, 8);
  policy.on_preempt(1, 8);
  policy.on_finish(0, 5);
  CHECK(take_all(policy) == std::vector<RequestId>{1, 2, 3});
}

TEST_CASE("the victim is the newest and the budget is the whole step") {
  BaselinePolicy policy(StaticOrder::kFcfs, 0);
  const std::vector<RequestId> running{4, 2, 9};
  CHECK(policy.choose_victim(running) == 9);
  CHECK(policy.token_budget(kView) == 64);
}
