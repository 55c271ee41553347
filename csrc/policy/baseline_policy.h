#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "plan/static_order.h"
#include "request/scheduling_policy.h"

namespace blendserve {

// A fixed order, a fixed token budget, and preemption of the newest: vLLM and SGLang as the paper runs them.
// Preempted requests come before all others.
class BaselinePolicy final : public SchedulingPolicy {
 public:
  BaselinePolicy(StaticOrder order, std::uint64_t seed) : less_(order, seed) {}

  void on_arrival(std::span<const Request> requests) override;
  std::optional<RequestId> next(const SchedulerView& view) override;
  void take(RequestId id) override;
  void on_preempt(RequestId id, std::int32_t num_tokens) override;
  void on_finish(RequestId id, std::int32_t output_len) override;
  std::int32_t token_budget(const SchedulerView& view) override { return view.max_batch_tokens; }
  RequestId choose_victim(std::span<const RequestId> running) override { return running.back(); }

 private:
  enum class State : std::uint8_t { kWaiting, kTaken, kPreempted, kFinished };

  const Request& request(RequestId id) const { return requests_[static_cast<std::size_t>(id)]; }
  State& state(RequestId id) { return states_[static_cast<std::size_t>(id)]; }
  void merge_arrivals();

  RequestLess less_;
  std::vector<Request> requests_;  // by id
  std::vector<State> states_;      // by id
  std::vector<RequestId> queue_;   // [head_, num_sorted_) in order, then what arrived since the last merge
  std::size_t head_ = 0;           // everything before it was taken
  std::size_t num_sorted_ = 0;
  std::vector<RequestId> preempted_;  // sorted, the next one last
};

}  // namespace blendserve
