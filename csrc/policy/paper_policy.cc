#include "policy/paper_policy.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "policy/all_arrived.h"

namespace blendserve {

PaperPolicy::PaperPolicy(std::shared_ptr<const Plan> plan, double capacity_tokens)
    : plan_(std::move(plan)),
      scan_(plan_->scan(capacity_tokens)),
      leaves_(static_cast<std::size_t>(plan_->num_requests())),
      sides_(leaves_.size(), ScanSide::kNone),
      next_unplanned_(plan_->num_requests()) {
  const auto& rows = plan_->layout().rows;
  for (std::size_t i = 0; i < rows.size(); ++i)
    leaves_[static_cast<std::size_t>(rows[i])] = static_cast<std::int32_t>(i);
}

void PaperPolicy::on_arrival(std::span<const Request> requests) {
  for (const Request& request : requests) {
    BLENDSERVE_ASSERT(request.id == static_cast<RequestId>(states_.size()));
    states_.push_back(State::kWaiting);
  }
}

std::int32_t PaperPolicy::token_budget(const SchedulerView& view) {
  ++step_;
  max_batch_tokens_ = view.max_batch_tokens;
  move_outlived_to_right();
  scan_.begin_steps();
  return scan_.is_blending() ? std::min(blended_budget(), view.max_batch_tokens) : view.max_batch_tokens;
}

// C_L + C_R and the decodes, in whole tiles.
std::int32_t PaperPolicy::blended_budget() const {
  const CostModel& model = plan_->model();
  const auto tile = static_cast<double>(model.device().token_tile);
  const double num_tiles = std::ceil(scan_.step_compute_s() / (model.t_tok() * tile));
  return static_cast<std::int32_t>(std::min(num_tiles * tile, static_cast<double>(INT32_MAX)));
}

std::optional<RequestId> PaperPolicy::next(const SchedulerView& view) {
  require_all_arrived(plan_->num_requests(), states_.size());
  while (!preempted_.empty() && state(preempted_.back().id) != State::kPreempted) preempted_.pop_back();
  if (!preempted_.empty() && view.has_room_for(preempted_.back().num_tokens)) return preempted_.back().id;
  if (scan_.is_exhausted()) return next_unplanned();
  const auto candidate = scan_.next();
  if (!candidate) return std::nullopt;
  offered_ = *candidate;
  return plan_->layout().rows[static_cast<std::size_t>(offered_.leaf)];
}

std::optional<RequestId> PaperPolicy::next_unplanned() {
  const auto end = static_cast<RequestId>(states_.size());
  while (next_unplanned_ < end && state(next_unplanned_) != State::kWaiting) ++next_unplanned_;
  if (next_unplanned_ < end) return next_unplanned_;
  return std::nullopt;
}

void PaperPolicy::take(RequestId id) {
  BLENDSERVE_ASSERT(state(id) == State::kWaiting || state(id) == State::kPreempted);
  if (is_planned(id)) admit_to_scan(id);
  state(id) = State::kTaken;
}

void PaperPolicy::admit_to_scan(RequestId id) {
  if (state(id) == State::kWaiting) {
    BLENDSERVE_ASSERT(offered_.leaf == leaf(id));
    last_side(id) = offered_.side;
  }
  scan_.release(leaf(id));
  scan_.admit(leaf(id), last_side(id));
  if (last_side(id) == ScanSide::kRight) return;
  const RequestShape shape = plan_->tree().shapes[static_cast<std::size_t>(leaf(id))];
  const double prefill_steps = std::ceil(static_cast<double>(shape.prompt_len) / max_batch_tokens_);
  expiries_.push({step_ + static_cast<std::int64_t>(prefill_steps + std::ceil(shape.output_len.mean)), id});
}

// Expiries of requests that ended, or that came back since, are left over in the queue: they are too late or too early
// by what the request waited.
void PaperPolicy::move_outlived_to_right() {
  while (!expiries_.empty() && expiries_.top().step < step_) {
    const RequestId id = expiries_.top().id;
    expiries_.pop();
    if (scan_.side(leaf(id)) != ScanSide::kLeft) continue;
    scan_.move_to_right(leaf(id));
    last_side(id) = ScanSide::kRight;
  }
}

void PaperPolicy::on_preempt(RequestId id, std::int32_t num_tokens) {
  BLENDSERVE_ASSERT(state(id) == State::kTaken);
  state(id) = State::kPreempted;
  preempted_.push_back({id, num_tokens});
}

void PaperPolicy::on_finish(RequestId id, std::int32_t) {
  if (is_planned(id)) {
    if (state(id) == State::kWaiting) scan_.drop(leaf(id));
    if (state(id) == State::kTaken || state(id) == State::kPreempted) scan_.release(leaf(id));
  }
  state(id) = State::kFinished;
}

}  // namespace blendserve
