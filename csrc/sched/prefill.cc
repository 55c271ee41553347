#include <algorithm>

#include "sched/step_scheduler.h"

namespace blendserve {

void StepScheduler::schedule_prefills(std::int32_t& budget) {
  for (const RequestId id : running_) {
    if (budget == 0) return;
    RequestRow& prefilling = mutable_row(id);
    const std::int32_t chunk = std::min(prefilling.num_left(), budget);
    if (chunk == 0) continue;
    append_to_plan(prefilling, chunk);
    budget -= chunk;
  }
}

}  // namespace blendserve
