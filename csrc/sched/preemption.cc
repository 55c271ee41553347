#include <algorithm>
#include <ranges>
#include <string>
#include <vector>

#include "base/error.h"
#include "sched/step_scheduler.h"

namespace blendserve {

// In order of admission.
std::vector<RequestId> StepScheduler::running_ids() const {
  std::vector<RequestId> ids;
  ids.reserve(running_.size());
  for (const auto& sequence : running_) ids.push_back(sequence->id());
  return ids;
}

void StepScheduler::preempt(RequestId id) {
  if (row(id).sequence == nullptr) {
    throw InternalError("the policy chose request " + std::to_string(id) + " for preemption, which is not running");
  }
  retract(mutable_row(id));
  drop_ended();
  ++stats_.num_preemptions;
}

// Gives the blocks back and hands the request to the policy again. The output stays; what it computed stays cached
// until evicted; what it announced and did not compute is void, and a waiting reader takes it over.
void StepScheduler::retract(RequestRow& row) {
  row.max_computed = std::max(row.max_computed, row.sequence->num_computed);
  cache_.release(row.sequence->blocks, row.tokens(), row.sequence->num_computed);
  row.sequence = nullptr;
  row.status = RequestStatus::kWaiting;
  on_wait(row.request.id);
  policy_->on_preempt(row.request.id, row.num_tokens());
}

void StepScheduler::abort_step(const StepPlan& plan) {
  check_oldest(plan);
  in_flight_.clear();
  // Newest first: a reader was admitted after the writer whose blocks it holds.
  for (const auto& sequence : std::views::reverse(running_)) {
    if (sequence->num_computed < sequence->num_scheduled) retract(mutable_row(sequence->id()));
  }
  drop_ended();
}

}  // namespace blendserve
