#include <algorithm>
#include <limits>

#include "sched/step_scheduler.h"

namespace blendserve {

void StepScheduler::schedule_chunk(RequestRow& row, std::int32_t& budget) {
  const Sequence& sequence = *row.sequence;
  const std::int32_t chunk =
      std::min({sequence.num_left(), budget, config_.max_chunk_tokens, max_scored_chunk(row, sequence.num_scheduled)});
  if (chunk == 0) return;
  append_to_plan(row, chunk);
  budget -= chunk;
}

// Tokens from `begin` that fit this step before max_prompt_logits rows score prompts.
std::int32_t StepScheduler::max_scored_chunk(const RequestRow& row, std::int32_t begin) const {
  constexpr auto kUnlimited = std::numeric_limits<std::int32_t>::max();
  if (!row.request.scores_prompt()) return kUnlimited;
  const auto room = config_.max_prompt_logits - static_cast<std::int32_t>(plan_->prompt_logit_rows.size());
  const std::int32_t num_scored = row.request.prompt_len() - 1 - begin;
  return num_scored <= room ? kUnlimited : room;
}

void StepScheduler::schedule_prefills(std::int32_t& budget) {
  for (const Sequence* sequence : prefilling_) {
    if (budget == 0) return;
    schedule_chunk(mutable_row(sequence->id()), budget);
  }
}

}  // namespace blendserve
