#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <queue>
#include <span>
#include <vector>

#include "plan/plan.h"
#include "request/scheduling_policy.h"

namespace blendserve {

// BlendServe as the paper has it: the dual scanner over a planned job (plan/dual_scan.h), a fixed token budget, and
// preemption of the newest. The first requests to arrive are the plan's, by row, all of them before the first step; any
// others run after them, first come first served. Preempted requests come before all others as soon as the KV cache has
// room for them, on the side they were on; their memory stays charged while they wait, so that no newer ones take it.
class PaperPolicy final : public SchedulingPolicy {
 public:
  // `capacity_tokens` of KV cache are divided between the two sides.
  PaperPolicy(std::shared_ptr<const Plan> plan, double capacity_tokens);
  PaperPolicy(const PaperPolicy&) = delete;
  PaperPolicy& operator=(const PaperPolicy&) = delete;

  void on_arrival(std::span<const Request> requests) override;
  std::optional<RequestId> next(const SchedulerView& view) override;
  void take(RequestId id) override;
  void on_preempt(RequestId id, std::int32_t num_tokens) override;
  void on_finish(RequestId id, std::int32_t output_len) override;
  std::int32_t token_budget(const SchedulerView& view) override;
  RequestId choose_victim(std::span<const RequestId> running) override { return running.back(); }
  bool is_memory_side(RequestId id) const override {
    return is_planned(id) && scan_.side(leaf(id)) == ScanSide::kRight;
  }

  const DualScan& scan() const { return scan_; }

 private:
  enum class State : std::uint8_t { kWaiting, kTaken, kPreempted, kFinished };

  // A left request that is expected to have ended before `step`.
  struct Expiry {
    std::int64_t step = 0;
    RequestId id = kNoRequest;

    friend bool operator>(const Expiry& a, const Expiry& b) { return a.step > b.step; }
  };

  struct Preempted {
    RequestId id = kNoRequest;
    std::int32_t num_tokens = 0;  // to compute again
  };

  State& state(RequestId id) { return states_[static_cast<std::size_t>(id)]; }
  bool is_planned(RequestId id) const { return id < plan_->num_requests(); }
  std::int32_t leaf(RequestId id) const { return leaves_[static_cast<std::size_t>(id)]; }
  ScanSide& last_side(RequestId id) { return sides_[static_cast<std::size_t>(id)]; }
  std::optional<RequestId> next_unplanned();
  void admit_to_scan(RequestId id);
  void move_outlived_to_right();
  std::int32_t blended_budget() const;

  std::shared_ptr<const Plan> plan_;
  DualScan scan_;
  std::vector<std::int32_t> leaves_;  // of planned requests, by id
  std::vector<ScanSide> sides_;       // of planned requests that were admitted, by id
  std::vector<State> states_;         // by id
  std::vector<Preempted> preempted_;  // the next one last
  RequestId next_unplanned_;          // all unplanned requests before it were taken or are finished
  ScanCandidate offered_;             // by the scanners
  std::int64_t step_ = 0;
  std::int32_t max_batch_tokens_ = 1;
  std::priority_queue<Expiry, std::vector<Expiry>, std::greater<>> expiries_;
};

}  // namespace blendserve
