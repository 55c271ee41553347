#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <functional>
#include <queue>
#include <utility>
#include <vector>

#include "base/huge_pages.h"

namespace blendserve {

// Running requests by the step at which they end; constant time each but for the few that run longer than the horizon.
// Steps go up, and never past a step at which something ends.
class EndingQueue {
 public:
  explicit EndingQueue(std::int32_t num_requests) : first_(kHorizon, kNone), occupied_(kHorizon / kWordBits, 0) {
    resize_huge(next_, static_cast<std::size_t>(num_requests));
  }

  std::int64_t size() const { return size_; }

  // `step` must be after the last one passed to pop_all().
  void push(std::int64_t step, std::int32_t request) {
    ++size_;
    if (step - now_ >= kHorizon) {
      late_.emplace(step, request);
      return;
    }
    const std::size_t at = slot(step);
    next_[static_cast<std::size_t>(request)] = std::exchange(first_[at], request);
    occupied_[at / kWordBits] |= std::uint64_t{1} << at % kWordBits;
  }

  // Calls run(request) for all that end at `step`.
  template <typename Run>
  void pop_all(std::int64_t step, const Run& run) {
    now_ = step;
    const std::size_t at = slot(step);
    occupied_[at / kWordBits] &= ~(std::uint64_t{1} << at % kWordBits);
    for (std::int32_t request = std::exchange(first_[at], kNone); request != kNone;
         request = next_[static_cast<std::size_t>(request)]) {
      --size_;
      run(request);
    }
    for (; !late_.empty() && late_.top().first <= step; late_.pop()) {
      --size_;
      run(late_.top().second);
    }
  }

  // The first step after the last pop_all() at which something ends, or `limit` if none does before it.
  std::int64_t next_step(std::int64_t limit) const {
    if (!late_.empty()) limit = std::min(limit, late_.top().first);
    const std::int64_t end = std::min(limit, now_ + kHorizon);
    for (std::int64_t step = now_ + 1; step < end;) {
      const std::size_t at = slot(step);
      const std::uint64_t ahead = occupied_[at / kWordBits] >> at % kWordBits;
      if (ahead != 0) return std::min(step + std::countr_zero(ahead), limit);
      step += static_cast<std::int64_t>(kWordBits - at % kWordBits);
    }
    return limit;
  }

 private:
  static constexpr std::int64_t kHorizon = std::int64_t{1} << 16;  // steps
  static constexpr std::int32_t kNone = -1;
  static constexpr std::size_t kWordBits = 64;

  static std::size_t slot(std::int64_t step) { return static_cast<std::size_t>(step % kHorizon); }

  using Late = std::pair<std::int64_t, std::int32_t>;

  std::vector<std::int32_t> first_;      // by step modulo kHorizon: a list of requests
  std::vector<std::int32_t> next_;       // by request, in its list
  std::vector<std::uint64_t> occupied_;  // a bit for every list that is not empty
  std::priority_queue<Late, std::vector<Late>, std::greater<>> late_;
  std::int64_t now_ = 0;
  std::int64_t size_ = 0;
};

}  // namespace blendserve
