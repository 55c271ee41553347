#include "estimate/online_estimator.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/error.h"

namespace blendserve {
namespace {

// Requests that the curve of all classes is worth in a class, and the lognormal in that curve.
constexpr double kStrength = 4.0;
// The least squared coefficient of variation of lengths around their start: that may be wrong itself, and a lognormal
// with a lighter tail would insist that a request past its estimate ends at once.
constexpr double kMinSpread = 1.0;

// How lengths spread around their estimates, on average: moments of d / E[d].
LengthEstimate average_spread(const std::vector<LengthEstimate>& start) {
  double sum = 0.0;
  double count = 0.0;
  for (const LengthEstimate& each : start) {
    if (each.mean <= 0.0) continue;
    sum += each.second_moment / (each.mean * each.mean);
    count += 1.0;
  }
  return {1.0, std::max(1.0 + kMinSpread, count > 0.0 ? sum / count : 0.0)};
}

std::vector<LengthEstimate> checked(std::vector<LengthEstimate> start, const PrefixTree& tree,
                                    const KnownLengths& known) {
  known.check(tree);
  if (start.size() != known.lengths.size()) {
    throw InvalidInput("there are " + std::to_string(start.size()) + " estimates to start with for " +
                       std::to_string(known.lengths.size()) + " requests");
  }
  return start;
}

std::vector<bool> known_rows(const KnownLengths& known) {
  std::vector<bool> is_known(known.lengths.size());
  for (std::size_t row = 0; row < is_known.size(); ++row) is_known[row] = known.is_known(static_cast<std::int32_t>(row));
  return is_known;
}

}  // namespace

OnlineEstimator::OnlineEstimator(const PrefixTree& tree, std::vector<LengthEstimate> start, const KnownLengths& known)
    : OnlineEstimator(tree.layout(), checked(std::move(start), tree, known), known_rows(known),
                      {known.max_output_lens.begin(), known.max_output_lens.end()}) {}

OnlineEstimator::OnlineEstimator(const TreeLayout& layout, std::vector<LengthEstimate> start,
                                 std::vector<bool> is_known, std::vector<std::int32_t> max_output_lens)
    : start_(std::move(start)),
      is_known_(std::move(is_known)),
      max_output_lens_(std::move(max_output_lens)),
      classes_(layout, start_),
      start_curve_(SurvivalCurve::lognormal(average_spread(start_))),
      tables_(static_cast<std::size_t>(classes_.count)),
      curves_(tables_.size(), start_curve_) {}

double OnlineEstimator::unit(std::int32_t row) const {
  return std::max(1.0, start(row).mean) / start_curve_.moments().mean;
}

void OnlineEstimator::on_finish(std::int32_t row, std::int32_t output_len) {
  if (!is_known(row)) tables_[class_of(row)].add_finished(output_len / unit(row));
}

void OnlineEstimator::refresh(std::span<const RunningAge> running) {
  for (LifeTable& table : tables_) table.clear_censored();
  for (const auto [row, num_generated] : running) {
    // It will have one token more: half of it keeps the age apart from lengths that ended there.
    if (!is_known(row)) tables_[class_of(row)].add_censored((num_generated + 0.5) / unit(row));
  }
  LifeTable all;
  for (const LifeTable& table : tables_) all.add(table);
  const SurvivalCurve common = SurvivalCurve::shrunk(all, start_curve_, kStrength);
  for (std::size_t i = 0; i < tables_.size(); ++i) curves_[i] = SurvivalCurve::shrunk(tables_[i], common, kStrength);
}

LengthEstimate OnlineEstimator::scale(std::size_t length_class) const {
  const LengthEstimate now = curves_[length_class].moments();
  const LengthEstimate then = start_curve_.moments();
  return {now.mean / then.mean, now.second_moment / then.second_moment};
}

double OnlineEstimator::survival(std::int32_t row, double length) const {
  if (is_known(row)) return length < start(row).mean ? 1.0 : SurvivalCurve::kMinSurvival;
  if (!max_output_lens_.empty() && length >= max_output_lens_[static_cast<std::size_t>(row)]) {
    return SurvivalCurve::kMinSurvival;
  }
  return curves_[class_of(row)].survival(length / unit(row));
}

LengthEstimate OnlineEstimator::estimate(std::int32_t row) const {
  if (is_known(row)) return start(row);
  const LengthEstimate factor = scale(class_of(row));
  const LengthEstimate scaled{start(row).mean * factor.mean, start(row).second_moment * factor.second_moment};
  return within_limits(row, {scaled.mean, std::max(scaled.second_moment, scaled.mean * scaled.mean)});
}

LengthEstimate OnlineEstimator::estimate_beyond(std::int32_t row, std::int32_t num_generated) const {
  const double shortest = num_generated + 1.0;
  if (num_generated == 0) return estimate(row);
  if (is_known(row)) return LengthEstimate::exactly(std::max(start(row).mean, shortest));
  const LengthEstimate relative = curves_[class_of(row)].moments_beyond(num_generated / unit(row));
  const double mean = std::max(relative.mean * unit(row), shortest);
  const double second_moment = std::max(relative.second_moment * unit(row) * unit(row), mean * mean);
  return within_limits(row, {mean, second_moment});
}

LengthEstimate OnlineEstimator::within_limits(std::int32_t row, LengthEstimate estimate) const {
  return max_output_lens_.empty() ? estimate : capped(estimate, max_output_lens_[static_cast<std::size_t>(row)]);
}

}  // namespace blendserve
