#include "sched/step_scheduler.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <ranges>
#include <string>
#include <utility>

#include "base/error.h"

namespace blendserve {

SchedulerStats& SchedulerStats::operator+=(const SchedulerStats& other) {
  num_steps += other.num_steps;
  num_prompt_tokens += other.num_prompt_tokens;
  num_cached_tokens += other.num_cached_tokens;
  num_joined_tokens += other.num_joined_tokens;
  num_output_tokens += other.num_output_tokens;
  num_recomputed_tokens += other.num_recomputed_tokens;
  num_preemptions += other.num_preemptions;
  num_wasted_tokens += other.num_wasted_tokens;
  num_finished += other.num_finished;
  num_evicted_blocks += other.num_evicted_blocks;
  num_dead_blocks += other.num_dead_blocks;
  return *this;
}

StepScheduler::StepScheduler(const SchedulerConfig& config, std::unique_ptr<SchedulingPolicy> policy,
                             std::span<const RequestId> tree_order)
    : config_((config.validate(), config)),
      policy_(std::move(policy)),
      cache_(config.num_blocks, config.block_size),
      waiting_(tree_order) {}

// Newest first, as in abort_step().
StepScheduler::~StepScheduler() {
  while (!running_.empty()) running_.pop_back();
}

std::shared_ptr<const StepPlan> StepScheduler::schedule() {
  if (static_cast<std::int32_t>(in_flight_.size()) == config_.max_steps_in_flight) {
    throw InvalidInput("step " + std::to_string(in_flight_.front()->step) +
                       " is in flight; pass it to update() or abort_step() first");
  }
  if (!reserve_decode_blocks()) return nullptr;
  start_plan();
  schedule_decodes();
  const std::int32_t num_decodes = load_.num_decodes;
  const std::int32_t width = std::min(policy_->token_budget(view()), config_.max_batch_tokens);
  std::int32_t budget = std::max(width - num_decodes, num_decodes == 0 ? 1 : 0);
  schedule_prefills(budget);
  admit_requests(budget);
  if (plan_->request_ids.empty()) {
    BLENDSERVE_ASSERT(!in_flight_.empty() || (running_.empty() && waiting_readers_.empty()));
    return nullptr;
  }
  ++stats_.num_steps;
  in_flight_.push_back(plan_);
  return plan_;
}

const std::vector<RequestId>& StepScheduler::update(const StepPlan& plan, std::span<const Token> sampled) {
  check_oldest(plan);
  if (sampled.size() != plan.sample_ids.size()) {
    throw InvalidInput("step " + std::to_string(plan.step) + " samples " + std::to_string(plan.sample_ids.size()) +
                       " tokens, but " + std::to_string(sampled.size()) + " were passed to update()");
  }
  in_flight_.pop_front();
  finished_.clear();
  fill_pending_tokens(sampled);
  std::size_t num_accepted = 0;  // samples stand in the order of their sequences
  for (std::size_t s = 0; s < plan.request_ids.size(); ++s) {
    prefetch_update(plan, s);
    const RequestId id = plan.request_ids[s];
    RequestRow& row = mutable_row(id);
    const bool has_sample = num_accepted < sampled.size() && plan.sample_ids[num_accepted] == id;
    const Token token = has_sample ? sampled[num_accepted++] : StepPlan::kPendingToken;
    if (row.sequence == nullptr) {  // it ended meanwhile
      stats_.num_wasted_tokens += has_sample ? 1 : 0;
      continue;
    }
    accept_computed(row, plan.kv_lens[s]);
    if (has_sample) {
      accept_token(row, token);
    } else if (!row.request.is_sampled() && row.sequence->num_computed == row.sequence->target_len) {
      finish(row, FinishReason::kLength);
    }
    if (row.sequence == nullptr) finished_.push_back(id);
  }
  if (!finished_.empty()) drop_ended();
  return finished_;
}

// Of the sequences behind sequence s: the row, then what that points to.
void StepScheduler::prefetch_update(const StepPlan& plan, std::size_t s) const {
  constexpr std::size_t kRowDistance = 16;
  constexpr std::size_t kDistance = 8;
  const auto& ids = plan.request_ids;
  const auto row_of = [&](std::size_t i) -> const RequestRow& { return rows_[static_cast<std::size_t>(ids[i])]; };
  if (s + kRowDistance < ids.size()) __builtin_prefetch(&row_of(s + kRowDistance));
  if (s + kDistance < ids.size()) {
    const RequestRow& row = row_of(s + kDistance);
    __builtin_prefetch(row.output.data() + row.output.size(), 1);
    if (const Sequence* const sequence = row.sequence) {
      __builtin_prefetch(sequence, 1);
      __builtin_prefetch(&sequence->last_token, 1);
    }
  }
}

// Of the step behind the one that sampled them.
void StepScheduler::fill_pending_tokens(std::span<const Token> sampled) {
  if (in_flight_.empty()) return;
  StepPlan& next = *in_flight_.front();
  for (std::size_t i = 0; i < next.pending_rows.size(); ++i) {
    next.token_ids[static_cast<std::size_t>(next.pending_rows[i])] =
        sampled[static_cast<std::size_t>(next.pending_samples[i])];
  }
}

void StepScheduler::accept_computed(RequestRow& row, std::int32_t num_computed) {
  Sequence& sequence = *row.sequence;
  sequence.num_computed = num_computed;
  cache_.publish(sequence.blocks, num_computed);
}

void StepScheduler::stop(RequestId id) {
  if (row(id).status >= RequestStatus::kFinished) return;
  RequestRow& stopped = mutable_row(id);
  if (!in_flight_.empty() && stopped.sequence != nullptr && !stopped.sequence->is_decoding) {
    throw InvalidInput("stop() is called while the prompt of request " + std::to_string(id) +
                       " is computed by a step in flight; call update() first");
  }
  std::erase_if(waiting_readers_, [id](const WaitingReader& reader) { return reader.id == id; });
  finish(stopped, FinishReason::kStopped);
  drop_ended();
}

void StepScheduler::take_over_cache(StepScheduler& other) {
  if (stats_.num_steps > 0) {
    throw InvalidInput("a cache can be taken over before the first step only; call it before schedule()");
  }
  if (other.config_.num_blocks != config_.num_blocks || other.config_.block_size != config_.block_size) {
    throw InvalidInput("a cache of " + std::to_string(other.config_.num_blocks) + " blocks of " +
                       std::to_string(other.config_.block_size) + " tokens can't be taken over; this one has " +
                       std::to_string(config_.num_blocks) + " of " + std::to_string(config_.block_size) +
                       "; give both the same num_blocks and block_size");
  }
  cache_ = KvCache::taken_over(other.cache_);
}

void StepScheduler::forget(RequestId id) {
  if (row(id).status < RequestStatus::kFinished) {
    throw InvalidInput("request " + std::to_string(id) + " is not finished; stop() it before forget()");
  }
  mutable_row(id).status = RequestStatus::kForgotten;
  std::vector<Token>().swap(mutable_row(id).output);
}

const RequestRow& StepScheduler::row(RequestId id) const {
  if (id < 0 || id >= num_requests()) {
    throw InvalidInput("there is no request " + std::to_string(id) + "; " + std::to_string(num_requests()) +
                       " were added");
  }
  return rows_[static_cast<std::size_t>(id)];
}

SchedulerStats StepScheduler::stats() const {
  SchedulerStats stats = stats_;
  stats.num_evicted_blocks = cache_.num_evictions();
  stats.num_dead_blocks = cache_.num_dead_blocks();
  return stats;
}

SchedulerView StepScheduler::view() const {
  return {.num_blocks = cache_.num_blocks(),
          .num_available_blocks = cache_.num_available(),
          .num_watermark_blocks = num_watermark_blocks(),
          .block_size = cache_.block_size(),
          .num_running = num_running(),
          .max_batch_tokens = config_.max_batch_tokens,
          .num_decodes = load_.num_decodes,
          .decode_kv_tokens = load_.decode_kv_tokens,
          .num_prefill_tokens = load_.num_prefill_tokens,
          .prefill_context = load_.prefill_context};
}

// Admission leaves them to running requests.
std::int64_t StepScheduler::num_watermark_blocks() const {
  if (running_.empty()) return 0;
  return static_cast<std::int64_t>(std::ceil(config_.watermark * static_cast<double>(config_.num_blocks)));
}

// A plan of another scheduler may have the same number: its requests must be those in flight here.
void StepScheduler::check_oldest(const StepPlan& plan) const {
  if (in_flight_.empty() || plan.step != in_flight_.front()->step ||
      plan.request_ids != in_flight_.front()->request_ids || plan.sample_ids != in_flight_.front()->sample_ids) {
    throw InvalidInput("step " + std::to_string(plan.step) +
                       " is not in flight; update() and abort_step() take the steps of schedule() in order");
  }
}

// The last plan's memory is used again, unless somebody still holds that plan.
void StepScheduler::start_plan() {
  if (!plan_ || plan_.use_count() > 1) plan_ = std::make_shared<StepPlan>();
  plan_->step = stats_.num_steps;
}

void StepScheduler::append_to_plan(RequestRow& row, std::int32_t num_new_tokens) {
  StepPlan& plan = *plan_;
  Sequence& sequence = *row.sequence;
  const std::int32_t begin = sequence.num_scheduled;
  const std::int32_t end = begin + num_new_tokens;
  sequence.num_scheduled = end;

  const auto blocks = sequence.blocks.blocks();
  const std::int32_t block_size = config_.block_size;
  const std::size_t first = plan.token_ids.size();
  plan.token_ids.resize(first + static_cast<std::size_t>(num_new_tokens));
  row.tokens().copy(begin, std::span(plan.token_ids).subspan(first));
  plan.positions.resize(plan.token_ids.size());
  std::iota(plan.positions.begin() + static_cast<std::ptrdiff_t>(first), plan.positions.end(), begin);
  for (std::int32_t position = begin; position < end;) {
    const std::int32_t index = position / block_size;
    const std::int64_t first_slot = std::int64_t{blocks[static_cast<std::size_t>(index)]} * block_size;
    const std::int32_t block_end = std::min(end, (index + 1) * block_size);
    for (; position < block_end; ++position) plan.slot_mapping.push_back(first_slot + position - index * block_size);
  }
  plan.request_ids.push_back(row.request.id);
  plan.qo_indptr.push_back(static_cast<std::int32_t>(plan.token_ids.size()));
  plan.kv_lens.push_back(end);
  plan.block_table.insert(plan.block_table.end(), blocks.begin(), blocks.begin() + cache_.num_blocks_for(end));
  plan.block_indptr.push_back(static_cast<std::int32_t>(plan.block_table.size()));
  if (row.request.scores_prompt()) append_prompt_logits(row, begin, end);
  if (end == row.num_tokens() && row.request.is_sampled()) {
    sequence.expect_token(static_cast<std::int32_t>(plan.sample_ids.size()));
    plan.logit_rows.push_back(plan.qo_indptr.back() - 1);
    plan.sample_ids.push_back(row.request.id);
    plan.sample_positions.push_back(static_cast<std::int32_t>(row.output.size()));
  }
}

// The plan's last tokens are [begin, end) of the sequence. The prompt's last token has no prompt token behind it.
void StepScheduler::append_prompt_logits(const RequestRow& row, std::int32_t begin, std::int32_t end) {
  StepPlan& plan = *plan_;
  const std::int32_t first_row = plan.qo_indptr.back() - (end - begin);
  const auto prompt = row.request.prompt;
  for (std::int32_t position = begin; position < std::min(end, row.request.prompt_len() - 1); ++position) {
    plan.prompt_logit_rows.push_back(first_row + position - begin);
    plan.prompt_next_tokens.push_back(prompt[static_cast<std::size_t>(position) + 1]);
  }
}

void StepScheduler::accept_token(RequestRow& row, Token token) {
  Sequence& sequence = *row.sequence;
  row.output.push_back(token);
  sequence.last_token = token;
  --sequence.num_pending;
  ++stats_.num_output_tokens;
  const auto num_generated = static_cast<std::int32_t>(row.output.size());
  if (is_stop_token(sequence.stop_set, token)) {
    finish(row, FinishReason::kStopToken);
  } else if (sequence.prompt_len + num_generated == sequence.max_len) {
    finish(row, FinishReason::kLength);
  } else if (!sequence.is_decoding) {
    sequence.is_decoding = true;
    policy_->on_decode_start(sequence.id(), num_generated);
  }
}

// Most tokens lie outside the range of the set, which tells without a search.
bool StepScheduler::is_stop_token(std::int32_t stop_set, Token token) const {
  const auto& set = stop_sets_[static_cast<std::size_t>(stop_set)];
  if (set.empty() || token < set.front() || token > set.back()) return false;
  return std::ranges::binary_search(set, token);
}

void StepScheduler::finish(RequestRow& row, FinishReason reason) {
  row.status = RequestStatus::kFinished;
  row.finish_reason = reason;
  if (row.sequence != nullptr) {
    cache_.release(row.sequence->blocks, row.tokens(), row.sequence->num_computed, live_len(row), keeps_dead());
    row.sequence = nullptr;
  } else {
    on_wait_end(row.request.id);
  }
  ++stats_.num_finished;
  policy_->on_finish(row.request.id, static_cast<std::int32_t>(row.output.size()));
}

void StepScheduler::drop_ended() {
  std::erase_if(running_, [](const auto& sequence) { return !sequence->is_running(); });
}

void StepScheduler::verify() const {
  std::vector<const BlockTable*> tables;
  for (const RequestRow& row : rows_) {
    BLENDSERVE_ASSERT((row.sequence != nullptr) == (row.status == RequestStatus::kRunning));
    if (row.sequence == nullptr) continue;
    const Sequence& sequence = *row.sequence;
    BLENDSERVE_ASSERT(sequence.id() == row.request.id && sequence.is_running());
    BLENDSERVE_ASSERT(sequence.num_computed <= sequence.num_scheduled && sequence.num_scheduled <= sequence.target_len);
    BLENDSERVE_ASSERT(!in_flight_.empty() ||
                      (sequence.num_computed == sequence.num_scheduled && sequence.num_pending == 0));
    const std::int32_t longest = std::max(sequence.max_len - 1, sequence.prompt_len);
    BLENDSERVE_ASSERT(sequence.target_len == std::min(row.num_tokens() + sequence.num_pending, longest));
    BLENDSERVE_ASSERT(sequence.last_token == row.last_token());
    BLENDSERVE_ASSERT(sequence.blocks.size() >= cache_.num_blocks_for(sequence.num_scheduled));
    tables.push_back(&sequence.blocks);
  }
  BLENDSERVE_ASSERT(tables.size() == running_.size());
  cache_.verify(tables);
}

}  // namespace blendserve
