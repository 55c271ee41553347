#include "estimate/online_estimator.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/error.h"

namespace blendserve {
namespace {

// Requests that a family's first curve is worth in the family, and the family's curve in a class.
constexpr double kStrength = 4.0;
// E[d²] / E[d]² of that curve. With a lighter tail a lognormal would insist that a request past its estimate ends at
// once; a heavier one tells more of classes that were thrown together than of one class.
constexpr double kMinSpread = 1.8;
constexpr double kMaxSpread = 4.0;

// By family: how lengths spread around their estimates, on average.
std::vector<SurvivalCurve> first_curves(const LengthClasses& classes, const std::vector<LengthEstimate>& start) {
  std::vector<double> sums(static_cast<std::size_t>(classes.num_families), 0.0);
  std::vector<double> counts(sums.size(), 0.0);
  for (std::size_t row = 0; row < start.size(); ++row) {
    if (start[row].mean <= 0.0) continue;
    const std::size_t family = LengthClasses::family(classes.of_row[row]);
    sums[family] += start[row].second_moment / (start[row].mean * start[row].mean);
    counts[family] += 1.0;
  }
  std::vector<SurvivalCurve> curves;
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const double spread = counts[i] > 0.0 ? sums[i] / counts[i] : 0.0;
    curves.push_back(SurvivalCurve::lognormal({1.0, std::clamp(spread, kMinSpread, kMaxSpread)}));
  }
  return curves;
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
  for (std::size_t row = 0; row < is_known.size(); ++row)
    is_known[row] = known.is_known(static_cast<std::int32_t>(row));
  return is_known;
}

}  // namespace

OnlineEstimator::OnlineEstimator(const PrefixTree& tree, std::vector<LengthEstimate> start, const KnownLengths& known)
    : OnlineEstimator(tree.layout(), tree.prompt_lens(), checked(std::move(start), tree, known), known_rows(known),
                      {known.max_output_lens.begin(), known.max_output_lens.end()}) {}

OnlineEstimator::OnlineEstimator(const TreeLayout& layout, std::span<const std::int32_t> prompt_lens,
                                 std::vector<LengthEstimate> start, std::vector<bool> is_known,
                                 std::vector<std::int32_t> max_output_lens)
    : start_(std::move(start)),
      is_known_(std::move(is_known)),
      max_output_lens_(std::move(max_output_lens)),
      classes_(layout, start_, prompt_lens),
      first_curves_(first_curves(classes_, start_)),
      tables_(static_cast<std::size_t>(classes_.count())) {
  for (std::size_t i = 0; i < tables_.size(); ++i) curves_.push_back(first_curve(i));
}

double OnlineEstimator::unit(std::int32_t row) const {
  return std::max(1.0, start(row).mean) / first_curve(class_of(row)).moments().mean;
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
  for (std::size_t family = 0; family < first_curves_.size(); ++family) {
    const auto bands = std::span(tables_).subspan(family * LengthClasses::kBands, LengthClasses::kBands);
    LifeTable all;
    for (const LifeTable& table : bands) all.add(table);
    const SurvivalCurve common = SurvivalCurve::shrunk(all, first_curves_[family], kStrength);
    for (std::size_t band = 0; band < bands.size(); ++band) {
      curves_[family * LengthClasses::kBands + band] = SurvivalCurve::shrunk(bands[band], common, kStrength);
    }
  }
}

LengthEstimate OnlineEstimator::scale(std::size_t length_class) const {
  const LengthEstimate now = curves_[length_class].moments();
  const double first_mean = first_curve(length_class).moments().mean;
  return {now.mean / first_mean, now.second_moment / (first_mean * first_mean)};
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
  const double mean = start(row).mean;
  return within_limits(row, {mean * factor.mean, mean * mean * factor.second_moment});
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
