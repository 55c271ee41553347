#include "policy/blend_policy.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "base/error.h"
#include "policy/all_arrived.h"

namespace blendserve {
namespace {

constexpr std::int64_t kForecastSteps = 16;
constexpr std::int64_t kMinLearningSteps = 64;
constexpr std::int64_t kMaxLearningSteps = 1024;
// Standard deviations of the KV forecast that admission leaves free: where every step reads all it can, a full cache
// saves time and compute to repeat is free.
constexpr double kSafety = 2.0;
constexpr double kBusBoundSafety = 1.0;
// Of the capacity, that admission leaves free after each preemption; it comes back by and by.
constexpr double kBackoff = 0.01;
constexpr double kMaxBackoff = 0.2;
constexpr double kBackoffDecay = 0.995;  // a forecast
// Where only reading bounds, requests of about the same length are admitted at most at this share of the rate at which
// they can be held on average, however much room there is: those that start together grow and end together, and leave
// the cache half empty. The rest is for what varies. Lengths that spread more than that do not keep in step.
constexpr double kAdmissionRate = 0.95;
constexpr double kEqualSpread = 0.1;
constexpr double kAdmissionBurst = 64;   // steps
constexpr double kReserveMargin = 1.25;  // on what the compute side is expected to hold
constexpr double kMaxReserve = 0.5;      // of the capacity
constexpr double kFullShare = 0.9;       // of the capacity, which the steps use while memory-heavy requests wait
constexpr std::int32_t kLookahead = 64;  // leaves that tell what the compute side needs

OnlineEstimator estimator_of(const Plan& plan, const TreeLayout& layout) {
  const auto count = static_cast<std::size_t>(plan.num_requests());
  std::vector<LengthEstimate> start(count);
  std::vector<bool> is_known(count);
  std::vector<std::int32_t> prompt_lens(count);
  for (std::size_t leaf = 0; leaf < count; ++leaf) {
    const auto row = static_cast<std::size_t>(plan.layout().rows[leaf]);
    start[row] = plan.tree().shapes[leaf].output_len;
    prompt_lens[row] = plan.tree().shapes[leaf].prompt_len;
    is_known[row] = plan.tree().shapes[leaf].is_length_known;
  }
  return {layout, prompt_lens, std::move(start), std::move(is_known), {}};
}

// The squared coefficient of variation of output lengths, requests weighted by the KV they hold over their lives.
double length_spread(const Plan& plan) {
  double weights = 0;
  double lens = 0;
  double squares = 0;
  for (std::size_t leaf = 0; leaf < static_cast<std::size_t>(plan.num_requests()); ++leaf) {
    const RequestShape shape = plan.tree().shapes[leaf];
    const double weight = shape.prompt_len * shape.output_len.mean + shape.output_len.second_moment / 2;
    weights += weight;
    lens += weight * shape.output_len.mean;
    squares += weight * shape.output_len.second_moment;
  }
  return lens > 0 ? squares * weights / (lens * lens) - 1 : 0.0;
}

bool is_every_length_known(const Plan& plan) {
  const RequestShapes& shapes = plan.tree().shapes;
  for (std::size_t leaf = 0; leaf < shapes.size(); ++leaf) {
    if (!shapes[leaf].is_length_known) return false;
  }
  return true;
}

// The leaves of those `rows` that are not bound to their prefix; none where there is nothing to learn.
std::vector<std::int32_t> free_leaves(const Plan& plan, const std::vector<std::int32_t>& rows) {
  std::vector<bool> is_wanted(static_cast<std::size_t>(plan.num_requests()), false);
  for (const std::int32_t row : rows) {
    if (row < 0 || row >= plan.num_requests()) {
      throw InvalidInput("first_rows has " + std::to_string(row) + "; the plan has " +
                         std::to_string(plan.num_requests()) + " requests");
    }
    is_wanted[static_cast<std::size_t>(row)] = true;
  }
  if (is_every_length_known(plan)) return {};
  std::vector<std::int32_t> leaves;
  for (std::int32_t leaf = 0; leaf < plan.num_requests(); ++leaf) {
    const std::int32_t row = plan.layout().rows[static_cast<std::size_t>(leaf)];
    if (is_wanted[static_cast<std::size_t>(row)] && !is_bound_to_prefix(plan, leaf)) leaves.push_back(leaf);
  }
  return leaves;
}

}  // namespace

BlendPolicy::BlendPolicy(std::shared_ptr<const Plan> plan, const TreeLayout& layout, const BlendConfig& config)
    : plan_(std::move(plan)),
      estimator_(estimator_of(*plan_, layout)),
      waiting_leaves_(*plan_, estimator_, free_leaves(*plan_, config.first_rows)),
      waiting_work_(*plan_, estimator_),
      pace_(plan_->model(), config.execution),
      leaves_(static_cast<std::size_t>(plan_->num_requests())),
      next_unplanned_(plan_->num_requests()),
      has_equal_lengths_(length_spread(*plan_) < kEqualSpread) {
  const auto& rows = plan_->layout().rows;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    leaves_[static_cast<std::size_t>(rows[i])] = static_cast<std::int32_t>(i);
  }
}

void BlendPolicy::on_arrival(std::span<const Request> requests) {
  for (const Request& request : requests) {
    BLENDSERVE_ASSERT(request.id == static_cast<RequestId>(states_.size()));
    states_.push_back(State::kWaiting);
    is_memory_side_.push_back(false);
    max_new_tokens_.push_back(request.limits.max_new_tokens);
    running_.add_id();
  }
}

// An unplanned request, of which nothing is expected, counts with what it holds.
KvCourse BlendPolicy::course(RequestId id, double num_tokens, std::int32_t num_generated) const {
  if (!is_planned(id)) return KvCourse::known(num_tokens, 1.0);
  if (estimator_.is_known(id)) return KvCourse::known(num_tokens, estimator_.expected_remaining(id, num_generated));
  const double reached = estimator_.survival(id, num_generated);
  const double max_steps = max_new_tokens_[static_cast<std::size_t>(id)] - num_generated;
  return KvCourse::uncertain(num_tokens, [&](double steps) {
    return steps < max_steps ? std::min(1.0, estimator_.survival(id, num_generated + steps) / reached) : 0.0;
  });
}

bool BlendPolicy::fits(std::int32_t leaf, double limit) const {
  if (has_equal_lengths_ && pace_.is_bus_bound() && kv_credit_ < 0) return false;
  return forecast_.has_room_for(course(row(leaf), own_prompt_len(leaf), 0), limit, safety_);
}

std::int32_t BlendPolicy::own_prompt_len(std::int32_t leaf) const {
  return shape(leaf).prompt_len - plan_->layout().leaf_parent_depth(leaf);
}

double BlendPolicy::density(std::int32_t leaf) const {
  const RequestShape now{estimator_.estimate(row(leaf)), shape(leaf).prompt_len};
  return plan_->costs().leaf(now, plan_->layout().leaf_parent_depth(leaf)).density();
}

std::int32_t BlendPolicy::token_budget(const SchedulerView& view) {
  ++step_;
  kv_credit_ = std::min(kv_credit_ + kAdmissionRate * capacity_, kAdmissionBurst * capacity_);
  if (step_ >= next_learning_) learn();
  if (step_ >= next_forecast_) forecast(view);
  const CostModel& model = plan_->model();
  const double tile = static_cast<double>(model.device().token_tile);
  const double target_s =
      pace_.compute_s(model.t_kv() * static_cast<double>(view.decode_kv_tokens)) - model.t_head() * view.num_decodes;
  const double t_attn = model.t_attn() * (2.0 * view.prefill_context + target_s / model.t_tok());
  const double tiles =
      std::max({1.0, std::round(target_s / (model.t_tok() + t_attn) / tile), std::ceil(view.num_decodes / tile)});
  return static_cast<std::int32_t>(std::min<double>(tiles * tile, view.max_batch_tokens));
}

void BlendPolicy::correct_times(const TimeCorrection& correction) {
  pace_.correct(correction);
  next_forecast_ = step_;
}

void BlendPolicy::learn() {
  next_learning_ = step_ + std::clamp(step_ / 4, kMinLearningSteps, kMaxLearningSteps);
  std::vector<RunningAge> ages;
  for (const RunningRequest& request : running_) {
    if (is_planned(request.id)) ages.push_back({request.id, request.num_generated_at(step_)});
  }
  estimator_.refresh(ages);
}

void BlendPolicy::forecast(const SchedulerView& view) {
  next_forecast_ = step_ + std::max<std::int64_t>(kForecastSteps, static_cast<std::int64_t>(running_.size()) / 8);
  is_memory_side_full_ = false;
  forecast_.clear();
  for (const RunningRequest& request : running_) {
    const std::int32_t generated = request.num_generated_at(step_);
    forecast_.add(course(request.id, request.own_len + generated + view.block_size / 2.0, generated));
  }
  const CostModel& model = plan_->model();
  capacity_ = (1 - backoff_) * static_cast<double>((view.num_blocks - view.num_watermark_blocks) * view.block_size);
  backoff_ *= kBackoffDecay;
  double running_memory_s = 0;
  for (std::size_t bin = 0; bin < Horizon::kBins; ++bin) {
    running_memory_s += model.t_kv() * Horizon::width(bin) * forecast_.held(bin);
  }
  const double compute_s = waiting_work_.compute_s() + model.decode_compute_s(forecast_.decode_steps()) +
                           model.t_tok() * static_cast<double>(view.num_prefill_tokens);
  const double full_memory_s = kFullShare * model.t_kv() * capacity_;
  const double waiting_memory_s = waiting_work_.memory_s();
  density_left_ = blendserve::density(compute_s, waiting_memory_s + running_memory_s);
  useful_tokens_ = view.max_batch_tokens * model.t_tok() / (density_left_ * model.t_kv());
  pace_.plan({compute_s, waiting_memory_s}, full_memory_s, forecast_);
  safety_ = pace_.is_bus_bound() ? kBusBoundSafety : kSafety;
  const double tokens_per_step = std::clamp<double>(pace_.even_compute_s() / model.t_tok(), 1.0, view.max_batch_tokens);
  reserve_ = std::min(compute_side_tokens(tokens_per_step), kMaxReserve * capacity_);
}

// KV that the next requests of the compute side hold when they are admitted at this rate: what a prompt token holds
// over its request's life, in tokens x steps, times prompt tokens a step.
double BlendPolicy::compute_side_tokens(double tokens_per_step) const {
  double token_steps = 0;
  double new_tokens = 0;
  double shared = 0;
  double largest = 0;
  waiting_leaves_.visit_ahead(kLookahead, [&](std::int32_t ahead) {
    const double own = std::max(1, own_prompt_len(ahead));
    const LengthEstimate d = estimator_.estimate(row(ahead));
    shared = std::max<double>(shared, plan_->layout().leaf_parent_depth(ahead));
    largest = std::max(largest, own);
    token_steps += own * (d.mean + own / (2 * tokens_per_step)) + d.second_moment / 2;
    new_tokens += own + d.mean;
  });
  return new_tokens > 0 ? kReserveMargin * tokens_per_step * token_steps / new_tokens + shared + largest : 0.0;
}

std::optional<RequestId> BlendPolicy::next(const SchedulerView& view) {
  require_all_arrived(plan_->num_requests(), states_.size());
  offered_memory_side_ = false;
  auto id = next_preempted(view);
  if (!id) id = next_of_memory_side(view);
  if (!id) id = next_of_compute_side(view);
  if (!id && waiting_leaves_.leftmost() == kNone) id = next_unplanned();
  offered_ = id.value_or(kNoRequest);
  return id;
}

std::optional<RequestId> BlendPolicy::next_preempted(const SchedulerView& view) {
  while (!preempted_.empty() && state(preempted_.back().id) != State::kPreempted) preempted_.pop_back();
  if (preempted_.empty()) return std::nullopt;
  const Preempted& request = preempted_.back();
  if (view.num_running > 0) {
    if (!view.has_room_for(request.num_tokens)) return std::nullopt;
    const KvCourse ahead = course(request.id, request.num_tokens, request.num_generated);
    if (!forecast_.has_room_for(ahead, capacity_ - reserve_, safety_)) return std::nullopt;
  }
  return request.id;
}

std::optional<RequestId> BlendPolicy::next_of_memory_side(const SchedulerView& view) {
  if (is_memory_side_full_ || !preempted_.empty()) return std::nullopt;
  const double limit = std::min(capacity_ - reserve_, useful_tokens_);
  std::int32_t found = waiting_leaves_.longest_known([&](std::int32_t leaf) { return fits(leaf, limit); });
  double least = density_left_;
  if (found == kNone) {
    for (std::size_t i = 0; i < waiting_leaves_.num_lists(); ++i) {
      const std::int32_t candidate = waiting_leaves_.rightmost(i);
      if (candidate == kNone) continue;
      const double candidate_density = density(candidate);
      if (candidate_density >= least || !fits(candidate, limit)) continue;
      least = candidate_density;
      found = candidate;
    }
  }
  if (found == kNone || !view.has_room_for(shape(found).prompt_len)) {
    is_memory_side_full_ = true;
    return std::nullopt;
  }
  offered_memory_side_ = true;
  return row(found);
}

std::optional<RequestId> BlendPolicy::next_of_compute_side(const SchedulerView& view) {
  const std::int32_t candidate = waiting_leaves_.leftmost();
  if (candidate == kNone) return std::nullopt;
  if (view.num_running > 0 && !fits(candidate, capacity_)) return std::nullopt;
  return row(candidate);
}

std::optional<RequestId> BlendPolicy::next_unplanned() {
  const auto end = static_cast<RequestId>(states_.size());
  while (next_unplanned_ < end && state(next_unplanned_) != State::kWaiting) ++next_unplanned_;
  if (next_unplanned_ < end) return next_unplanned_;
  return std::nullopt;
}

void BlendPolicy::take(RequestId id) {
  BLENDSERVE_ASSERT(id == offered_);
  RunningRequest request{.id = id};
  if (state(id) == State::kPreempted) {
    request.num_generated = preempted_.back().num_generated;
    request.prompt_len = preempted_.back().num_tokens - request.num_generated;
    request.own_len = request.prompt_len;
    preempted_.pop_back();
  } else if (is_planned(id)) {
    request.prompt_len = shape(leaf(id)).prompt_len;
    request.own_len = own_prompt_len(leaf(id));
    is_memory_side_[static_cast<std::size_t>(id)] = offered_memory_side_;
    take_waiting(leaf(id));
    const LengthEstimate d = estimator_.estimate(id);
    kv_credit_ -= request.own_len * d.mean + d.second_moment / 2;
  }
  state(id) = State::kTaken;
  running_.add(request);
  forecast_.add(course(id, request.own_len + request.num_generated, request.num_generated));
}

void BlendPolicy::take_waiting(std::int32_t leaf) {
  waiting_leaves_.take(leaf);
  waiting_work_.take(leaf);
}

void BlendPolicy::on_decode_start(RequestId id, std::int32_t num_generated) {
  running_[id].num_generated = num_generated;
  running_[id].decode_step = step_;
}

void BlendPolicy::on_preempt(RequestId id, std::int32_t num_tokens) {
  BLENDSERVE_ASSERT(state(id) == State::kTaken);
  preempted_.push_back({id, num_tokens, num_tokens - running_[id].prompt_len});
  state(id) = State::kPreempted;
  running_.remove(id);
  next_forecast_ = step_;
  backoff_ = std::min(kMaxBackoff, backoff_ + kBackoff);
}

void BlendPolicy::on_finish(RequestId id, std::int32_t output_len) {
  if (is_planned(id)) {
    if (state(id) == State::kWaiting) {
      take_waiting(leaf(id));
    } else {
      estimator_.on_finish(id, output_len);
    }
  }
  running_.remove(id);
  if (is_memory_side_[static_cast<std::size_t>(id)]) next_forecast_ = step_;
  state(id) = State::kFinished;
}

// The memory side's least progressed: what it computed is the cheapest to compute again. Else the newest.
RequestId BlendPolicy::choose_victim(std::span<const RequestId> running_ids) {
  RequestId victim = running_ids.back();
  std::int32_t least = INT32_MAX;
  for (const RequestId id : running_ids) {
    if (!is_memory_side(id)) continue;
    const std::int32_t generated = running_[id].num_generated_at(step_);
    if (generated >= least) continue;
    least = generated;
    victim = id;
  }
  return victim;
}

}  // namespace blendserve
