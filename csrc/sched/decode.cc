#include <algorithm>

#include "base/error.h"
#include "sched/step_scheduler.h"

namespace blendserve {

// Afterwards every running sequence holds the blocks of all its tokens. Preempts until there are enough.
void StepScheduler::reserve_decode_blocks() {
  const auto lacks_block = [this](RequestId id) {
    const RequestRow& sequence = row(id);
    return cache_.num_blocks_for(sequence.num_tokens()) > sequence.sequence->blocks.size();
  };
  while (std::ranges::count_if(running_, lacks_block) > cache_.num_available()) {
    preempt(policy_->choose_victim(running_));
  }
  for (const RequestId id : running_) {
    if (lacks_block(id)) BLENDSERVE_ASSERT(cache_.extend(mutable_row(id).sequence->blocks));
  }
}

void StepScheduler::schedule_decodes() {
  load_ = {};
  for (const RequestId id : running_) {
    RequestRow& decoding = mutable_row(id);
    const std::int32_t num_left = decoding.num_left();
    if (num_left != 1) {
      if (load_.num_prefill_tokens == 0) load_.prefill_context = decoding.sequence->num_scheduled;
      load_.num_prefill_tokens += num_left;
      continue;
    }
    append_to_plan(decoding, 1);
    ++load_.num_decodes;
    load_.decode_kv_tokens += decoding.num_tokens();
  }
}

}  // namespace blendserve
