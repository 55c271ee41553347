#include "estimate/survival_curve.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace blendserve {
namespace {

// Moments of a length spread evenly over [begin, end].
LengthEstimate even(double begin, double end) {
  return {(begin + end) / 2.0, (begin * begin + begin * end + end * end) / 3.0};
}

LengthEstimate even(std::size_t bucket) {
  const int index = static_cast<int>(bucket);
  return even(LengthBuckets::begin(index), LengthBuckets::end(index));
}

LengthEstimate mix(LengthEstimate a, LengthEstimate b, double share_of_a) {
  return {std::lerp(b.mean, a.mean, share_of_a), std::lerp(b.second_moment, a.second_moment, share_of_a)};
}

LengthEstimate observed(const LifeTable::Bucket& bucket) {
  return {bucket.sum / bucket.num_finished, bucket.sum_squares / bucket.num_finished};
}

}  // namespace

SurvivalCurve SurvivalCurve::kaplan_meier(const LifeTable& table) {
  BLENDSERVE_ASSERT(table.exposure() > 0.0);
  SurvivalCurve curve;
  const auto buckets = table.at_risk();
  double log_survival = 0.0;
  double last_end = 0.0;  // of the evidence
  std::size_t num_observed = 0;
  for (std::size_t i = 0; i < kCount; ++i) {
    const LifeTable::Bucket& bucket = buckets[i];
    curve.ends_[i] = bucket.num_finished > 0.0 ? observed(bucket) : even(i);
    if (bucket.num_finished + bucket.num_censored <= 0.0) continue;
    num_observed = i + 1;
    last_end = LengthBuckets::end(static_cast<int>(i));
    if (bucket.num_finished <= 0.0) continue;
    curve.hazards_[i] = bucket.num_finished / bucket.num_at_risk;
    log_survival += std::log1p(-curve.hazards_[i]);
  }
  const double rate = table.num_finished() > 0.0 ? -log_survival / last_end : 0.5 / table.exposure();
  for (std::size_t i = num_observed; i < kCount; ++i) {
    const int index = static_cast<int>(i);
    curve.hazards_[i] = -std::expm1(-rate * (LengthBuckets::end(index) - LengthBuckets::begin(index)));
  }
  curve.sum_beyond();
  return curve;
}

SurvivalCurve SurvivalCurve::shrunk(const LifeTable& table, const SurvivalCurve& reference, double strength) {
  BLENDSERVE_ASSERT(strength > 0.0);
  SurvivalCurve curve;
  const auto buckets = table.at_risk();
  for (std::size_t i = 0; i < kCount; ++i) {
    const LifeTable::Bucket& bucket = buckets[i];
    const double expected = strength * reference.hazards_[i];
    curve.hazards_[i] = (bucket.num_finished + expected) / (bucket.num_at_risk + strength);
    curve.ends_[i] = bucket.num_finished > 0.0 ? mix(observed(bucket), reference.ends_[i],
                                                     bucket.num_finished / (bucket.num_finished + expected))
                                               : reference.ends_[i];
  }
  curve.sum_beyond();
  return curve;
}

SurvivalCurve SurvivalCurve::lognormal(LengthEstimate moments) {
  BLENDSERVE_ASSERT(moments.mean > 0.0 && moments.second_moment > moments.mean * moments.mean);
  SurvivalCurve curve;
  const double variance = std::log(moments.second_moment / (moments.mean * moments.mean));  // of ln d
  const double centre = std::log(moments.mean) - variance / 2.0;
  const auto survival = [&](double len) {
    return len <= 0.0 ? 1.0 : std::erfc((std::log(len) - centre) / std::sqrt(2.0 * variance)) / 2.0;
  };
  double reached = 1.0;
  for (std::size_t i = 0; i < kCount; ++i) {
    const double left = survival(LengthBuckets::end(static_cast<int>(i)));
    curve.hazards_[i] = reached > 0.0 ? 1.0 - left / reached : 1.0;
    curve.ends_[i] = even(i);
    reached = left;
  }
  curve.sum_beyond();
  return curve;
}

void SurvivalCurve::sum_beyond() {
  hazards_.back() = 1.0;
  beyond_.back() = ends_.back();
  for (std::size_t i = kCount - 1; i-- > 0;) beyond_[i] = mix(ends_[i], beyond_[i + 1], hazards_[i]);
  reached_.front() = 1.0;
  for (std::size_t i = 0; i + 1 < kCount; ++i) reached_[i + 1] = reached_[i] * (1.0 - hazards_[i]);
}

double SurvivalCurve::survival(double length) const {
  const int index = LengthBuckets::of(length);
  const auto i = static_cast<std::size_t>(index);
  const double begin = LengthBuckets::begin(index);
  const double lived = std::clamp((length - begin) / (LengthBuckets::end(index) - begin), 0.0, 1.0);
  return std::max(kMinSurvival, reached_[i] * (1.0 - lived * hazards_[i]));
}

LengthEstimate SurvivalCurve::moments_beyond(double age) const {
  if (age <= 0.0) return moments();
  const int index = LengthBuckets::of(age);
  const double begin = LengthBuckets::begin(index);
  const double end = LengthBuckets::end(index);
  const auto i = static_cast<std::size_t>(index);
  if (i + 1 == kCount) return even(age, std::max({age, end, 2.0 * ends_[i].mean - age}));
  const double hazard = hazards_[i];
  const double lived = (age - begin) / (end - begin);
  const double ends_here = hazard < 1.0 ? hazard * (1.0 - lived) / (1.0 - hazard * lived) : 1.0;
  return mix(even(age, end), beyond_[i + 1], ends_here);
}

double SurvivalCurve::quantile(double q) const {
  double reached = 1.0;
  for (std::size_t i = 0; i < kCount; ++i) {
    const double left = reached * (1.0 - hazards_[i]);
    if (1.0 - left >= q) {
      const int index = static_cast<int>(i);
      const double share = reached > left ? (reached - (1.0 - q)) / (reached - left) : 0.0;
      return std::lerp(LengthBuckets::begin(index), LengthBuckets::end(index), std::clamp(share, 0.0, 1.0));
    }
    reached = left;
  }
  return LengthBuckets::end(LengthBuckets::kCount - 1);
}

}  // namespace blendserve
