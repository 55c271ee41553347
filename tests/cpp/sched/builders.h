#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <vector>

#include "policy/baseline_policy.h"
#include "sched/step_scheduler.h"

namespace blendserve::testing {

inline std::vector<Token> iota(std::int32_t length, Token first = 0) {
  std::vector<Token> tokens;
  for (Token token = first; token < first + length; ++token) tokens.push_back(token);
  return tokens;
}

inline std::unique_ptr<StepScheduler> make_scheduler(const SchedulerConfig& config,
                                                     StaticOrder order = StaticOrder::kFcfs,
                                                     const std::vector<RequestId>& tree_order = {}) {
  return std::make_unique<StepScheduler>(config, std::make_unique<BaselinePolicy>(order, 0), tree_order);
}

// Lexicographic order is a depth-first order of the prefix tree.
inline std::vector<RequestId> tree_order_of(const std::vector<std::vector<Token>>& prompts) {
  std::vector<RequestId> order(prompts.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, {}, [&](RequestId id) { return prompts[static_cast<std::size_t>(id)]; });
  return order;
}

inline RequestId add(StepScheduler& scheduler, const std::vector<std::vector<Token>>& prompts,
                     std::int32_t max_new_tokens, std::int32_t stop_set = 0) {
  const std::vector<LengthLimits> limits(prompts.size(), LengthLimits{max_new_tokens, stop_set});
  return scheduler.add_requests(Workload::from_prompts(prompts), limits);
}

inline std::vector<Token> zeros_for(const StepPlan& plan) { return std::vector<Token>(plan.sample_ids.size(), 0); }

// Runs until all is finished, sampling token 0; returns the number of steps.
inline std::int64_t drain(StepScheduler& scheduler) {
  std::int64_t num_steps = 0;
  while (const auto plan = scheduler.schedule()) {
    scheduler.update(*plan, zeros_for(*plan));
    ++num_steps;
  }
  return num_steps;
}

}  // namespace blendserve::testing
