#include <algorithm>
#include <ranges>
#include <string>

#include "base/error.h"
#include "sched/step_scheduler.h"

namespace blendserve {

void StepScheduler::preempt(RequestId id) {
  if (std::ranges::find(running_, id) == running_.end()) {
    throw InternalError("the policy chose request " + std::to_string(id) + " for preemption, which is not running");
  }
  std::erase(running_, id);
  retract(mutable_row(id));
  ++stats_.num_preemptions;
}

// Gives the blocks back and hands the request to the policy again. The output stays; what it computed and published
// stays cached until evicted; what it announced and did not compute is void, and a waiting reader takes it over.
void StepScheduler::retract(RequestRow& row) {
  row.sequence.reset();
  row.num_pending = 0;
  row.status = RequestStatus::kWaiting;
  on_wait(row.request.id);
  policy_->on_preempt(row.request.id, row.num_tokens());
}

void StepScheduler::abort_step(const StepPlan& plan) {
  check_oldest(plan);
  in_flight_.clear();
  // Newest first: a reader was admitted after the writer whose blocks it holds.
  for (const RequestId id : std::views::reverse(running_)) {
    RequestRow& row = mutable_row(id);
    if (row.sequence->num_computed < row.sequence->num_scheduled) retract(row);
  }
  drop_finished_from_running();
}

}  // namespace blendserve
