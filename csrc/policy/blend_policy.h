#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "estimate/online_estimator.h"
#include "perf/step_time.h"
#include "plan/plan.h"
#include "policy/kv_forecast.h"
#include "policy/pace.h"
#include "policy/running_requests.h"
#include "policy/waiting_leaves.h"
#include "policy/waiting_work.h"
#include "request/scheduling_policy.h"

namespace blendserve {

struct BlendConfig {
  Execution execution = Execution::kOverlapped;
  // The length samples: run before all others but not waited for, unless they are bound to their prefix or
  // every length is known.
  std::vector<std::int32_t> first_rows;
};

// Our own schedule over a planned job.
//
//   memory side   requests of less density than what is left of the job, admitted as long as the forecast of the KV
//                 cache has room for all they are expected to grow: of known lengths the longest that fits, of the
//                 others the rightmost of the class of least density
//   compute side  all others from the left of the plan, as far as the token budget of the step goes
//   pace          the token budget follows the memory time of the step (policy/pace.h)
//   lengths       are learned as the job runs, running requests counting as censored evidence
//
// The first requests to arrive are the plan's, by row, all of them before the first step; any others run after them,
// first come first served.
class BlendPolicy final : public SchedulingPolicy {
 public:
  // `layout` is that of the tree the plan was made from; it tells which requests learn from each other. Throws
  // InvalidInput for a first row that the plan has not.
  BlendPolicy(std::shared_ptr<const Plan> plan, const TreeLayout& layout, const BlendConfig& config);
  BlendPolicy(const BlendPolicy&) = delete;
  BlendPolicy& operator=(const BlendPolicy&) = delete;

  void on_arrival(std::span<const Request> requests) override;
  std::optional<RequestId> next(const SchedulerView& view) override;
  void take(RequestId id) override;
  void on_decode_start(RequestId id, std::int32_t num_generated) override;
  void on_preempt(RequestId id, std::int32_t num_tokens) override;
  void on_finish(RequestId id, std::int32_t output_len) override;
  std::int32_t token_budget(const SchedulerView& view) override;
  RequestId choose_victim(std::span<const RequestId> running) override;
  void correct_times(const TimeCorrection& correction) override;
  bool is_memory_side(RequestId id) const override { return is_memory_side_[static_cast<std::size_t>(id)]; }

 private:
  enum class State : std::uint8_t { kWaiting, kTaken, kPreempted, kFinished };
  static constexpr std::int32_t kNone = WaitingLeaves::kNone;

  struct Preempted {
    RequestId id = kNoRequest;
    std::int32_t num_tokens = 0;
    std::int32_t num_generated = 0;
  };
  State& state(RequestId id) { return states_[static_cast<std::size_t>(id)]; }
  bool is_planned(RequestId id) const { return id < plan_->num_requests(); }
  std::int32_t leaf(RequestId id) const { return leaves_[static_cast<std::size_t>(id)]; }
  RequestId row(std::int32_t leaf) const { return plan_->layout().rows[static_cast<std::size_t>(leaf)]; }
  RequestShape shape(std::int32_t leaf) const { return plan_->tree().shapes[static_cast<std::size_t>(leaf)]; }

  KvCourse course(RequestId id, double num_tokens, std::int32_t num_generated) const;
  bool fits(std::int32_t leaf, double limit) const;
  std::int32_t own_prompt_len(std::int32_t leaf) const;
  double density(std::int32_t leaf) const;

  std::optional<RequestId> next_preempted(const SchedulerView& view);
  std::optional<RequestId> next_of_memory_side(const SchedulerView& view);
  std::optional<RequestId> next_of_compute_side(const SchedulerView& view);
  std::optional<RequestId> next_unplanned();

  void take_waiting(std::int32_t leaf);
  void learn();
  void forecast(const SchedulerView& view);
  double compute_side_tokens(double tokens_per_step) const;

  std::shared_ptr<const Plan> plan_;
  OnlineEstimator estimator_;
  WaitingLeaves waiting_leaves_;
  WaitingWork waiting_work_;
  Pace pace_;
  KvForecast forecast_;

  std::vector<std::int32_t> leaves_;          // of planned requests, by id
  std::vector<State> states_;                 // by id
  std::vector<bool> is_memory_side_;          // by id: how it was admitted
  std::vector<std::int32_t> max_new_tokens_;  // by id
  RunningRequests running_;
  std::vector<Preempted> preempted_;
  RequestId next_unplanned_;
  bool has_equal_lengths_;  // nearly

  std::int64_t step_ = 0;
  std::int64_t next_forecast_ = 0;
  std::int64_t next_learning_ = 0;
  double capacity_ = 0;       // tokens
  double backoff_ = 0;        // share of the capacity that is left free
  double kv_credit_ = 0;      // tokens x steps that admitted requests may hold beyond those that were
  double safety_ = 0;         // standard deviations of the forecast that are left free
  double useful_tokens_ = 0;  // of KV, whose reads take as long as the widest step's compute
                              // is worth; more would only crowd out cached prefixes
  double reserve_ = 0;        // tokens, for the compute side
  double density_left_ = 0;   // of what is left of the job
  bool is_memory_side_full_ = false;
  RequestId offered_ = kNoRequest;
  bool offered_memory_side_ = false;
};

}  // namespace blendserve
