#include "base/error.h"
#include "sched/step_scheduler.h"

namespace blendserve {

// Afterwards every running sequence holds the blocks of all its tokens. Preempts until there are enough; false where it
// would have to preempt while a step is in flight, which may be writing the victim's blocks.
bool StepScheduler::reserve_decode_blocks() {
  look_at_running();
  while (static_cast<std::int64_t>(lacking_blocks_.size()) > cache_.num_available()) {
    if (!in_flight_.empty()) return false;
    preempt(policy_->choose_victim(running_));
    look_at_running();
  }
  for (RequestRow* row : lacking_blocks_) BLENDSERVE_ASSERT(cache_.extend(row->sequence->blocks));
  return true;
}

// The one pass over what runs: the more requests, the more of a step's scheduling it is.
void StepScheduler::look_at_running() {
  load_ = {};
  decoding_.clear();
  prefilling_.clear();
  lacking_blocks_.clear();
  for (const RequestId id : running_) {
    RequestRow& row = mutable_row(id);
    const std::int32_t target_len = row.target_len();
    const std::int32_t num_left = target_len - row.sequence->num_scheduled;
    if (cache_.num_blocks_for(target_len) > row.sequence->blocks.size()) lacking_blocks_.push_back(&row);
    if (num_left == 1 && row.request.is_sampled()) {
      decoding_.push_back(&row);
      load_.decode_kv_tokens += target_len;
    } else if (num_left > 0) {
      if (prefilling_.empty()) load_.prefill_context = row.sequence->num_scheduled;
      prefilling_.push_back(&row);
      load_.num_prefill_tokens += num_left;
    }
  }
  load_.num_decodes = static_cast<std::int32_t>(decoding_.size());
}

// What append_to_plan() does for each of them with one token, into arrays that grow only once.
void StepScheduler::schedule_decodes() {
  StepPlan& plan = *plan_;
  const std::size_t count = decoding_.size();
  const std::int32_t block_size = config_.block_size;
  plan.request_ids.resize(count);
  plan.qo_indptr.resize(count + 1);
  plan.token_ids.resize(count);
  plan.positions.resize(count);
  plan.slot_mapping.resize(count);
  plan.kv_lens.resize(count);
  plan.block_indptr.resize(count + 1);
  plan.block_table.reserve(static_cast<std::size_t>(load_.decode_kv_tokens / block_size) + count);
  plan.logit_rows.resize(count);
  plan.sample_positions.resize(count);
  for (std::size_t i = 0; i < count; ++i) {
    RequestRow& row = *decoding_[i];
    const std::int32_t position = row.sequence->num_scheduled++;
    const auto blocks = row.sequence->blocks.blocks().first(static_cast<std::size_t>(position / block_size) + 1);
    plan.request_ids[i] = row.request.id;
    plan.qo_indptr[i + 1] = static_cast<std::int32_t>(i) + 1;
    if (row.num_pending > 0) {
      plan.token_ids[i] = StepPlan::kPendingToken;
      plan.pending_rows.push_back(static_cast<std::int32_t>(i));
      plan.pending_samples.push_back(row.last_sample);
    } else {
      plan.token_ids[i] = row.last_token();
    }
    plan.positions[i] = position;
    plan.slot_mapping[i] = std::int64_t{blocks.back()} * block_size + position % block_size;
    plan.kv_lens[i] = position + 1;
    plan.block_table.insert(plan.block_table.end(), blocks.begin(), blocks.end());
    plan.block_indptr[i + 1] = static_cast<std::int32_t>(plan.block_table.size());
    plan.logit_rows[i] = static_cast<std::int32_t>(i);
    plan.sample_positions[i] = static_cast<std::int32_t>(row.output.size()) + row.num_pending;
    expect_token(row, i);
  }
  plan.sample_ids = plan.request_ids;
}

}  // namespace blendserve
