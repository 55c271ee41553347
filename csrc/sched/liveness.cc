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

// The first tokens of the request's sequence that waiting requests may read.
std::int32_t StepScheduler::live_len(const RequestRow& row) const {
  if (!waiting_.knows(row.request.id)) return KvCache::kAllLive;
  std::int64_t live_len = 0;
  for (const RequestId id : waiting_.around(row.request.id)) {
    if (id == kNoRequest) continue;
    live_len = std::max(live_len, common_prefix_len(row.request.prompt, this->row(id).request.prompt));
  }
  return static_cast<std::int32_t>(live_len);
}

}  // namespace blendserve
