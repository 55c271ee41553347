#include <algorithm>
#include <cstdint>

#include "base/token_match.h"
#include "sched/step_scheduler.h"

namespace blendserve {

void StepScheduler::on_wait(RequestId id) {
  if (waiting_.knows(id)) waiting_.insert(id);
}

void StepScheduler::on_wait_end(RequestId id) {
  if (waiting_.knows(id)) waiting_.erase(id);
}

// The first tokens of the request's sequence that waiting requests of the plan may read.
std::int32_t StepScheduler::live_len(const RequestRow& row) const {
  if (!waiting_.knows(row.request.id)) return KvCache::kAllLive;
  std::int64_t live_len = 0;
  for (const RequestId id : waiting_.around(row.request.id)) {
    if (id == kNoRequest) continue;
    live_len = std::max(live_len, common_prefix_len(row.request.prompt, this->row(id).request.prompt));
  }
  return static_cast<std::int32_t>(live_len);
}

// Whether the requests of the plan are all there and no others: what these do not read nobody reads before the next
// plan.
bool StepScheduler::knows_readers() const { return num_requests() == waiting_.num_known(); }

// For the next plan, unless it is certain to be evicted before: the cache is full, and requests wait.
bool StepScheduler::keeps_dead() const { return !knows_readers() || !cache_.has_evicted() || waiting_.empty(); }

}  // namespace blendserve
