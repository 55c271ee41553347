#include <algorithm>
#include <utility>
#include <vector>

#include "base/error.h"
#include "sched/step_scheduler.h"

namespace blendserve {

void StepScheduler::admit_requests(std::int32_t& budget) {
  if (!admit_waiting_readers(budget)) return;
  while (budget > 0 && num_running() < config_.max_batch_requests) {
    const auto id = policy_->next(view());
    if (!id) return;
    RequestRow& candidate = mutable_row(*id);
    WaitingReader reader;
    switch (try_admit(candidate, budget, reader)) {
      case Admission::kAdmitted:
        policy_->take(*id);
        break;
      case Admission::kNoRoom:
        return;
      case Admission::kWaitsForPrefix:
        if (static_cast<std::int32_t>(waiting_readers_.size()) >= config_.max_waiting_readers) return;
        policy_->take(*id);
        candidate.status = RequestStatus::kTaken;
        waiting_readers_.push_back(reader);
        break;
    }
  }
}

// Readers come before the requests behind them in the policy's order. Returns false when the room ran out.
bool StepScheduler::admit_waiting_readers(std::int32_t& budget) {
  bool has_room = true;
  std::vector<WaitingReader> still_waiting;
  for (WaitingReader reader : waiting_readers_) {
    const bool may_run = has_room && budget > 0 && num_running() < config_.max_batch_requests;
    if (!may_run || !is_prefix_ready(reader)) {
      still_waiting.push_back(reader);
      continue;
    }
    const Admission admission = try_admit(mutable_row(reader.id), budget, reader);
    has_room = admission != Admission::kNoRoom;
    if (admission != Admission::kAdmitted) still_waiting.push_back(reader);
  }
  waiting_readers_ = std::move(still_waiting);
  return has_room;
}

// Also when the writer gave up: the reader then takes over what is left to compute.
bool StepScheduler::is_prefix_ready(const WaitingReader& reader) const {
  return !cache_.is_pending(reader.block, reader.writer) || will_be_computed(reader.writer, reader.end);
}

// A prefix that another request is computing is read, never computed twice: in this step when it will be complete by
// then (all K/V of a layer are appended before its attention), else later; `reader` then says what it waits for.
StepScheduler::Admission StepScheduler::try_admit(RequestRow& row, std::int32_t& budget, WaitingReader& reader) {
  const TokenView tokens = row.tokens();
  const PrefixMatch match = cache_.match(tokens, tokens.size() - 1);  // the last token's logits are needed
  const auto num_matched = static_cast<std::int32_t>(match.blocks.size());
  std::int32_t num_pending = 0;
  for (std::int32_t i = 0; i < num_matched; ++i) {
    const BlockId block = match.blocks[static_cast<std::size_t>(i)];
    const std::int32_t end = (i + 1) * config_.block_size;
    if (!cache_.is_pending(block)) continue;
    ++num_pending;
    if (will_be_computed(cache_.owner(block), end)) continue;
    reader = {row.request.id, block, cache_.owner(block), end};
    return Admission::kWaitsForPrefix;
  }

  const std::int32_t num_hit = num_matched * config_.block_size;
  if (max_scored_chunk(row, num_hit) == 0) return Admission::kNoRoom;
  const std::int64_t num_new = cache_.num_blocks_for(tokens.size()) - num_matched;
  if (num_new + num_watermark_blocks() > cache_.num_available() - match.num_unheld) return Admission::kNoRoom;
  on_wait_end(row.request.id);
  auto blocks = cache_.admit(row.request.id, match, tokens, knows_readers() ? live_len(row) : KvCache::kAllLive);
  BLENDSERVE_ASSERT(blocks.has_value());

  if (row.num_cached < 0) {
    row.num_cached = num_hit;
    stats_.num_cached_tokens += num_hit;
    stats_.num_joined_tokens += num_pending * config_.block_size;
    stats_.num_prompt_tokens += row.request.prompt_len();
  }
  stats_.num_recomputed_tokens += std::max(row.max_computed - num_hit, 0);
  running_.push_back(std::make_unique<Sequence>(Sequence{.blocks = std::move(*blocks),
                                                         .num_computed = num_hit,
                                                         .num_scheduled = num_hit,
                                                         .target_len = tokens.size(),
                                                         .prompt_len = row.request.prompt_len(),
                                                         .max_len = row.request.max_len(),
                                                         .stop_set = row.request.limits.stop_set,
                                                         .last_token = row.last_token()}));
  row.sequence = running_.back().get();
  row.status = RequestStatus::kRunning;
  schedule_chunk(row, budget);
  return Admission::kAdmitted;
}

// Whether `writer` has its first `end` tokens in the cache once the step being planned has run.
bool StepScheduler::will_be_computed(RequestId writer, std::int32_t end) const {
  return row(writer).sequence->num_scheduled >= end;
}

}  // namespace blendserve
