#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "estimate/evidence.h"
#include "estimate/length_classes.h"
#include "estimate/length_estimate.h"
#include "estimate/life_table.h"
#include "estimate/survival_curve.h"
#include "tree/prefix_tree.h"

namespace blendserve {

struct RunningAge {
  std::int32_t row;
  std::int32_t num_generated;  // output tokens so far; it has not ended
};

// Length estimates that learn while the job runs.
//
// What is learned is how long requests live in multiples of the estimate they started with (an accelerated failure time
// model: Kalbfleisch and Prentice, ch. 7): one survival curve a class, shrunk to that of its family, which is
// shrunk to a lognormal around 1 with the spread that its estimates have. Running requests count with their age, as
// censored evidence: finished ones alone are biased short. So before any evidence an estimate is its start, and a
// running request that outlives its estimate is estimated from those of its class that lived as long.
//
// on_finish() is O(1); refresh() O(running + classes · buckets), and only it changes estimates; queries are O(1). Calls
// come from one thread.
class OnlineEstimator {
 public:
  // `start` is by row (estimate_lengths). Known lengths stay as they are and teach nothing. Throws InvalidInput.
  OnlineEstimator(const PrefixTree& tree, std::vector<LengthEstimate> start, const KnownLengths& known);
  // All by row. `max_output_lens` are the caps, or none.
  OnlineEstimator(const TreeLayout& layout, std::span<const std::int32_t> prompt_lens,
                  std::vector<LengthEstimate> start, std::vector<bool> is_known,
                  std::vector<std::int32_t> max_output_lens);

  void on_finish(std::int32_t row, std::int32_t output_len);

  // Learns from all that finished and from `running`, which replaces the ages of the last call.
  void refresh(std::span<const RunningAge> running);

  // E[d] and E[d²] of a class, as multiples of the mean (and of its square) that a request started with.
  LengthEstimate scale(std::size_t length_class) const;

  // P(d > length) of a request, what it has generated left out of account.
  double survival(std::int32_t row, double length) const;
  // Requests of one class learn from each other.
  std::size_t class_of(std::int32_t row) const { return classes_.of_row[static_cast<std::size_t>(row)]; }
  std::size_t num_classes() const { return tables_.size(); }
  bool is_known(std::int32_t row) const { return is_known_[static_cast<std::size_t>(row)]; }

  // Of a request that has generated nothing.
  LengthEstimate estimate(std::int32_t row) const;
  // E[d] and E[d²] of one that has generated `num_generated` tokens and goes on; the mean is at least one more.
  LengthEstimate estimate_beyond(std::int32_t row, std::int32_t num_generated) const;
  double expected_remaining(std::int32_t row, std::int32_t num_generated) const {
    return estimate_beyond(row, num_generated).mean - num_generated;
  }

 private:
  const LengthEstimate& start(std::int32_t row) const { return start_[static_cast<std::size_t>(row)]; }
  const SurvivalCurve& first_curve(std::size_t length_class) const {
    return first_curves_[LengthClasses::family(length_class)];
  }
  // The length that the curves count as 1, tokens.
  double unit(std::int32_t row) const;
  LengthEstimate within_limits(std::int32_t row, LengthEstimate estimate) const;

  std::vector<LengthEstimate> start_;
  std::vector<bool> is_known_;
  std::vector<std::int32_t> max_output_lens_;  // empty: no caps
  LengthClasses classes_;
  std::vector<SurvivalCurve> first_curves_;  // by family
  std::vector<LifeTable> tables_;            // by class
  std::vector<SurvivalCurve> curves_;        // by class
};

}  // namespace blendserve
