#include <algorithm>
#include <numeric>
#include <vector>

#include "base/error.h"
#include "sched/step_scheduler.h"

namespace blendserve {
namespace {

constexpr std::size_t kPrefetchDistance = 8;  // sequences

}  // namespace

// Afterwards every running sequence holds the blocks of all its tokens. Preempts until there are enough; false where it
// would have to preempt while a step is in flight, which may be writing the victim's blocks.
bool StepScheduler::reserve_decode_blocks() {
  look_at_running();
  while (static_cast<std::int64_t>(lacking_blocks_.size()) > cache_.num_available()) {
    if (!in_flight_.empty()) return false;
    preempt(policy_->choose_victim(running_ids()));
    look_at_running();
  }
  for (Sequence* sequence : lacking_blocks_) BLENDSERVE_ASSERT(cache_.extend(sequence->blocks));
  return true;
}

// The one pass over what runs: the more requests, the more of a step's scheduling it is.
void StepScheduler::look_at_running() {
  load_ = {};
  decoding_.clear();
  prefilling_.clear();
  lacking_blocks_.clear();
  for (const auto& running : running_) {
    Sequence* const sequence = running.get();
    const std::int32_t num_left = sequence->num_left();
    if (sequence->target_len > sequence->blocks.size() * config_.block_size) lacking_blocks_.push_back(sequence);
    if (num_left == 1 && sequence->is_sampled()) {
      decoding_.push_back(sequence);
      load_.decode_kv_tokens += sequence->target_len;
    } else if (num_left > 0) {
      if (prefilling_.empty()) load_.prefill_context = sequence->num_scheduled;
      prefilling_.push_back(sequence);
      load_.num_prefill_tokens += num_left;
    }
  }
  load_.num_decodes = static_cast<std::int32_t>(decoding_.size());
}

// What append_to_plan() does for each of them with one token, which is the last of its last block.
void StepScheduler::schedule_decodes() {
  StepPlan& plan = *plan_;
  const std::size_t count = decoding_.size();
  const std::int32_t block_size = config_.block_size;
  plan.start_with_decodes(count);
  plan.block_table.resize(static_cast<std::size_t>(load_.decode_kv_tokens / block_size) + count);  // at most
  std::iota(plan.logit_rows.begin(), plan.logit_rows.end(), 0);
  std::iota(plan.qo_indptr.begin(), plan.qo_indptr.end(), 0);
  plan.block_indptr[0] = 0;
  BlockId* const table = plan.block_table.data();
  BlockId* table_end = table;
  for (std::size_t i = 0; i < count; ++i) {
    if (i + kPrefetchDistance < count) decoding_[i + kPrefetchDistance]->blocks.prefetch();
    const Sequence& sequence = *decoding_[i];
    const std::int32_t position = sequence.num_scheduled;
    const auto blocks = sequence.blocks.blocks();
    const std::int64_t offset = position - (std::ssize(blocks) - 1) * block_size;
    plan.request_ids[i] = sequence.id();
    plan.token_ids[i] = sequence.last_token;
    plan.positions[i] = position;
    plan.slot_mapping[i] = std::int64_t{blocks.back()} * block_size + offset;
    plan.kv_lens[i] = position + 1;
    plan.sample_positions[i] = position + 1 - sequence.prompt_len;
    table_end = std::copy(blocks.data(), blocks.data() + blocks.size(), table_end);
    plan.block_indptr[i + 1] = static_cast<std::int32_t>(table_end - table);
  }
  plan.block_table.resize(static_cast<std::size_t>(table_end - table));
  plan.sample_ids = plan.request_ids;
  if (!in_flight_.empty()) mark_pending_tokens();
  for (std::size_t i = 0; i < count; ++i) {
    ++decoding_[i]->num_scheduled;
    decoding_[i]->expect_token(static_cast<std::int32_t>(i));
  }
}

// Those of the decodes that the step in flight samples.
void StepScheduler::mark_pending_tokens() {
  for (std::size_t i = 0; i < decoding_.size(); ++i) {
    if (decoding_[i]->num_pending == 0) continue;
    plan_->token_ids[i] = StepPlan::kPendingToken;
    plan_->pending_rows.push_back(static_cast<std::int32_t>(i));
    plan_->pending_samples.push_back(decoding_[i]->last_sample);
  }
}

}  // namespace blendserve
