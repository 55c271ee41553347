#include "policy/paper_policy.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <memory>
#include <random>
#include <set>

#include "base/error.h"
#include "plan/planned_job.h"
#include "sched/step_scheduler.h"
#include "sched/token_executor.h"

using namespace blendserve;
using namespace blendserve::testing;

namespace {

std::shared_ptr<const Plan> plan_of(const Prompts& prompts, const std::vector<double>& lens) {
  ThreadPool pool(1);
  const auto tree = PrefixTree::build(Workload::from_prompts(prompts), pool);
  return Plan::make(tree, {.lengths = lens}, simple_model(), {}, 0.0);
}

// Dense requests first: 100 prompt tokens and 2 outputs; then sparse ones: 1 prompt token and 200 outputs.
struct TwoClasses {
  Prompts prompts;
  std::vector<double> lens;

  TwoClasses(int num_dense, int num_sparse) {
    for (Token i = 0; i < num_dense + num_sparse; ++i) {
      prompts.emplace_back(i < num_dense ? 100 : 1, i);
      lens.push_back(i < num_dense ? 2 : 200);
    }
  }
};

// A policy that has all its requests, and what a scheduler does with it.
struct Driver {
  Prompts prompts;
  std::shared_ptr<const Plan> plan;
  PaperPolicy policy;
  SchedulerView view{.num_blocks = 1000, .num_available_blocks = 1000, .block_size = 16, .max_batch_tokens = 64};

  Driver(const TwoClasses& job, double capacity)
      : prompts(job.prompts), plan(plan_of(job.prompts, job.lens)), policy(plan, capacity) {
    std::vector<Request> requests;
    for (const auto& prompt : prompts) requests.push_back({static_cast<RequestId>(requests.size()), prompt, {1, 0}});
    policy.on_arrival(requests);
  }

  std::int32_t leaf(RequestId id) const {
    return static_cast<std::int32_t>(std::ranges::find(plan->layout().rows, id) - plan->layout().rows.begin());
  }
  ScanSide side(RequestId id) const { return policy.scan().side(leaf(id)); }
  void begin_step() {
    const std::int32_t budget = policy.token_budget(view);
    CHECK(budget > 0);
    CHECK(budget <= view.max_batch_tokens);
  }
  std::vector<RequestId> take_all() {
    std::vector<RequestId> taken;
    while (const auto id = policy.next(view)) {
      policy.take(*id);
      taken.push_back(*id);
    }
    return taken;
  }
  RequestId first_on(ScanSide wanted, const std::vector<RequestId>& taken) const {
    return *std::ranges::find_if(taken, [&](RequestId id) { return side(id) == wanted; });
  }
};

}  // namespace

TEST_CASE("a step's admissions are on the accounts of both sides: dense requests left, sparse ones right") {
  Driver driver(TwoClasses(400, 100), 5000);
  driver.begin_step();
  REQUIRE(driver.policy.scan().is_blending());
  const auto taken = driver.take_all();
  for (const RequestId id : taken) CHECK(driver.side(id) == (id < 400 ? ScanSide::kLeft : ScanSide::kRight));
  const auto num_right = std::ranges::count_if(taken, [](RequestId id) { return id >= 400; });
  CHECK(num_right == static_cast<std::ptrdiff_t>(driver.policy.scan().right_limit() / 101));
  CHECK(static_cast<std::ptrdiff_t>(taken.size()) > num_right);
  CHECK(driver.policy.scan().right_charge() == Approx(101.0 * static_cast<double>(num_right)));
  CHECK_FALSE(driver.policy.next(driver.view).has_value());
}

TEST_CASE("a left request that outlives its estimate moves to the right account; one that ended does not") {
  Driver driver(TwoClasses(400, 100), 5000);
  driver.begin_step();
  const auto taken = driver.take_all();
  const RequestId lasting = driver.first_on(ScanSide::kLeft, taken);
  for (const RequestId id : taken) {
    if (driver.side(id) == ScanSide::kLeft && id != lasting) driver.policy.on_finish(id, 2);
  }
  const double charge = driver.policy.scan().right_charge();
  // 100 tokens take two steps of 64, two outputs two more: it is expected to have ended before the sixth step.
  for (int step = 2; step <= 5; ++step) {
    driver.begin_step();
    CHECK(driver.side(lasting) == ScanSide::kLeft);
    CHECK(driver.policy.scan().right_charge() == Approx(charge));
  }
  driver.begin_step();
  CHECK(driver.side(lasting) == ScanSide::kRight);
  CHECK(driver.policy.scan().right_charge() == Approx(charge + 102));
  driver.policy.on_finish(lasting, 9);
  CHECK(driver.policy.scan().right_charge() == Approx(charge));
}

TEST_CASE("a right request that ends early makes room for the next one") {
  Driver driver(TwoClasses(400, 100), 5000);
  driver.begin_step();
  const auto taken = driver.take_all();
  driver.policy.on_finish(driver.first_on(ScanSide::kRight, taken), 3);
  const auto next = driver.policy.next(driver.view);
  REQUIRE(next.has_value());
  CHECK(*next >= 400);
  CHECK(std::ranges::count(taken, *next) == 0);
}

TEST_CASE("preempted requests come back first, the last one first, each on its side") {
  Driver driver(TwoClasses(400, 100), 5000);
  driver.begin_step();
  const auto taken = driver.take_all();
  const RequestId left = driver.first_on(ScanSide::kLeft, taken);
  const RequestId right = driver.first_on(ScanSide::kRight, taken);
  const double charge = driver.policy.scan().right_charge();
  driver.policy.on_preempt(right, 8);
  driver.policy.on_preempt(left, 8);
  CHECK(driver.policy.scan().right_charge() == Approx(charge));  // no newer request takes their memory
  driver.begin_step();
  CHECK(driver.policy.next(driver.view) == left);
  driver.policy.take(left);
  CHECK(driver.policy.next(driver.view) == right);
  driver.policy.take(right);
  CHECK(driver.side(left) == ScanSide::kLeft);
  CHECK(driver.side(right) == ScanSide::kRight);
  CHECK(driver.policy.scan().right_charge() == Approx(charge));

  driver.policy.on_preempt(left, 8);
  driver.policy.on_finish(left, 1);  // cancelled while it waits
  CHECK(driver.policy.next(driver.view) != left);
}

TEST_CASE("requests beyond the plan wait for it, cancelled ones are never offered") {
  Driver driver(TwoClasses(3, 2), 5000);
  const std::vector<Token> late{9};
  driver.policy.on_arrival(std::vector<Request>{{5, late, {1, 0}}, {6, late, {1, 0}}});
  driver.policy.on_finish(0, 0);
  driver.policy.on_finish(5, 0);
  std::vector<RequestId> order;
  while (order.size() < 5) {
    driver.begin_step();
    const auto taken = driver.take_all();
    for (const RequestId id : taken) driver.policy.on_finish(id, 1);
    order.insert(order.end(), taken.begin(), taken.end());
  }
  CHECK(std::set(order.begin(), order.end()) == std::set<RequestId>{1, 2, 3, 4, 6});
  CHECK(order.back() == 6);
}

TEST_CASE("the plan's requests have to arrive before the first step") {
  const TwoClasses job(2, 1);
  PaperPolicy policy(plan_of(job.prompts, job.lens), 1000);
  CHECK_THROWS_AS(policy.next({}), InvalidInput);
}
