#include <algorithm>

#include "sched/step_scheduler.h"

namespace blendserve {

void StepScheduler::schedule_chunk(RequestRow& row, std::int32_t& budget) {
  const std::int32_t chunk = std::min({row.num_left(), budget, config_.max_chunk_tokens});
  append_to_plan(row, chunk);
  budget -= chunk;
}

void StepScheduler::schedule_prefills(std::int32_t& budget) {
  for (const RequestId id : running_) {
    if (budget == 0) return;
    RequestRow& prefilling = mutable_row(id);
    if (prefilling.num_left() > 0) schedule_chunk(prefilling, budget);
  }
}

}  // namespace blendserve
