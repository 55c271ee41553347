#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "perf/step_time.h"
#include "sched/step_scheduler.h"
#include "sim/timeline.h"

namespace blendserve {

// The timeline of a run, simulated or real: what its scheduler shows after each step. A run may have several schedulers
// one after the other.
class RunRecorder {
 public:
  explicit RunRecorder(std::size_t max_bins) : timeline_(max_bins) {}

  // After `scheduler` was updated with `plan`. The step took duration_s; `predicted` is what it should take.
  void add(const StepScheduler& scheduler, const StepPlan& plan, const StepTime& predicted, double duration_s);
  const std::vector<TimelineBin>& bins() const { return timeline_.bins(); }

 private:
  void count_memory_side(const SchedulingPolicy& policy, const StepPlan& plan);

  Timeline timeline_;
  SchedulerStats before_;  // of the current scheduler, after the step before
  std::int64_t memory_side_tokens_ = 0;
};

}  // namespace blendserve
