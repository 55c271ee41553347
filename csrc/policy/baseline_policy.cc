#include "policy/baseline_policy.h"

#include <algorithm>

#include "base/error.h"

namespace blendserve {

void BaselinePolicy::on_arrival(std::span<const Request> requests) {
  for (const Request& request : requests) {
    BLENDSERVE_ASSERT(request.id == static_cast<RequestId>(requests_.size()));
    requests_.push_back(request);
    states_.push_back(State::kWaiting);
    queue_.push_back(request.id);
  }
}

void BaselinePolicy::merge_arrivals() {
  if (num_sorted_ == queue_.size()) return;
  queue_.erase(queue_.begin(), queue_.begin() + static_cast<std::ptrdiff_t>(head_));
  const auto arrivals = queue_.begin() + static_cast<std::ptrdiff_t>(num_sorted_ - head_);
  const auto less = [this](RequestId a, RequestId b) { return less_(request(a), request(b)); };
  std::sort(arrivals, queue_.end(), less);
  std::inplace_merge(queue_.begin(), arrivals, queue_.end(), less);
  head_ = 0;
  num_sorted_ = queue_.size();
}

std::optional<RequestId> BaselinePolicy::next(const SchedulerView&) {
  while (!preempted_.empty() && state(preempted_.back()) != State::kPreempted) preempted_.pop_back();
  if (!preempted_.empty()) return preempted_.back();
  merge_arrivals();
  while (head_ < queue_.size() && state(queue_[head_]) != State::kWaiting) ++head_;
  if (head_ < queue_.size()) return queue_[head_];
  return std::nullopt;
}

void BaselinePolicy::take(RequestId id) {
  BLENDSERVE_ASSERT(state(id) == State::kWaiting || state(id) == State::kPreempted);
  state(id) = State::kTaken;
}

void BaselinePolicy::on_preempt(RequestId id, std::int32_t) {
  BLENDSERVE_ASSERT(state(id) == State::kTaken);
  state(id) = State::kPreempted;
  const auto later_first = [this](RequestId a, RequestId b) { return less_(request(b), request(a)); };
  preempted_.insert(std::ranges::upper_bound(preempted_, id, later_first), id);
}

void BaselinePolicy::on_finish(RequestId id, std::int32_t) { state(id) = State::kFinished; }

}  // namespace blendserve
