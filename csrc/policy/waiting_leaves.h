#pragma once

#include <cstdint>
#include <vector>

#include "estimate/online_estimator.h"
#include "plan/plan.h"

namespace blendserve {

// Whether a leaf must run near those that share its prefix: computing the prefix anew would cost more than 1 % of it.
bool is_bound_to_prefix(const Plan& plan, std::int32_t leaf);

// The leaves of a plan that wait, as the compute side looks for them, from the left, and as the memory side does: those
// with known lengths from long to short, the others in lists from the right, one for each class of lengths and one for
// all that are bound to their prefix.
class WaitingLeaves {
 public:
  // `first` are to be leftmost before all others.
  WaitingLeaves(const Plan& plan, const OnlineEstimator& estimator, std::vector<std::int32_t> first);

  // Of those of `first` that wait, then of all: the leftmost, or kNone.
  std::int32_t leftmost();

  // Of the leaves with known lengths: the longest for which fits(leaf), and that longer ones do not fit may be assumed;
  // kNone if there is none.
  template <typename Fits>
  std::int32_t longest_known(const Fits& fits) {
    std::size_t low = 0;
    std::size_t high = known_.size();
    while (low < high) {
      const std::size_t middle = (low + high) / 2;
      if (fits(known_[middle])) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    const std::size_t found = waiting_from(low);
    return found < known_.size() && fits(known_[found]) ? known_[found] : kNone;
  }

  // The rightmost waiting leaf of a list, or kNone.
  std::int32_t rightmost(std::size_t list);
  std::size_t num_lists() const { return lists_.size(); }

  // Calls visit(leaf) for the next `count` from the left, `first` left out of account.
  template <typename Visit>
  void visit_ahead(std::int32_t count, const Visit& visit) const {
    const auto end = static_cast<std::int32_t>(is_waiting_.size());
    for (std::int32_t leaf = left_; leaf < end && count > 0; ++leaf) {
      if (!is_waiting(leaf)) continue;
      visit(leaf);
      --count;
    }
  }

  void take(std::int32_t leaf) { is_waiting_[static_cast<std::size_t>(leaf)] = false; }
  bool is_waiting(std::int32_t leaf) const { return is_waiting_[static_cast<std::size_t>(leaf)]; }

  static constexpr std::int32_t kNone = -1;

 private:
  std::size_t waiting_from(std::size_t index);

  std::vector<std::int32_t> first_;  // ascending
  std::size_t num_first_taken_ = 0;
  std::int32_t left_ = 0;                         // everything before it was taken
  std::vector<bool> is_waiting_;                  // by leaf
  std::vector<std::int32_t> known_;               // leaves, the longest first
  std::vector<std::int32_t> next_known_;          // by index into known_: where to look on from one that was taken
  std::vector<std::vector<std::int32_t>> lists_;  // leaves in the plan's order; from the end, taken ones are dropped
};

}  // namespace blendserve
