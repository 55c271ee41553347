#pragma once

#include <cstdint>
#include <vector>

#include "estimate/online_estimator.h"
#include "plan/plan.h"

namespace blendserve {

// Leaves of a plan that wait, by what is known of their lengths: those with known lengths from long to short, the
// others by class from the right of the plan to the left.
class MemorySide {
 public:
  MemorySide(const Plan& plan, const OnlineEstimator& estimator);

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

  // The rightmost waiting leaf of a class, or kNone.
  std::int32_t rightmost(std::size_t length_class);
  std::size_t num_classes() const { return classes_.size(); }

  void take(std::int32_t leaf) { is_waiting_[static_cast<std::size_t>(leaf)] = false; }
  bool is_waiting(std::int32_t leaf) const { return is_waiting_[static_cast<std::size_t>(leaf)]; }

  static constexpr std::int32_t kNone = -1;

 private:
  std::size_t waiting_from(std::size_t index);

  std::vector<bool> is_waiting_;                    // by leaf
  std::vector<std::int32_t> known_;                 // leaves, the longest first
  std::vector<std::int32_t> next_known_;            // by index into known_: where to look on from one that was taken
  std::vector<std::vector<std::int32_t>> classes_;  // leaves in the plan's order; from the end, taken ones are dropped
};

}  // namespace blendserve
