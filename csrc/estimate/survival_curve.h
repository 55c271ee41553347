#pragma once

#include <array>

#include "estimate/length_buckets.h"
#include "estimate/length_estimate.h"
#include "estimate/life_table.h"

namespace blendserve {

// The distribution of a length, as the share of those that reach a bucket and end in it (its hazard). Within a bucket
// the ends are spread evenly. Building takes O(buckets), moments_beyond() O(1), quantile() O(buckets).
class SurvivalCurve {
 public:
  // The product-limit estimate (Kaplan and Meier 1958), by buckets. Where the longest evidence is an age, the
  // rest is undetermined: its hazard is constant, with the survival S at the end t of that evidence on its exponential,
  // exp(-λ·t) = S (Brown, Hollander and Korwar 1974). As long as nothing ended, half an end is assumed.
  // The table must not be empty.
  static SurvivalCurve kaplan_meier(const LifeTable& table);

  // The same with `strength` further lengths in each bucket that behave like `reference`: the posterior mean under
  // a beta process (Hjort 1990). Ages that nothing reached have the reference's hazard.
  // strength > 0.
  static SurvivalCurve shrunk(const LifeTable& table, const SurvivalCurve& reference, double strength);

  // A lognormal with these moments; without evidence a fair guess for answer lengths. 0 < mean² < second moment.
  static SurvivalCurve lognormal(LengthEstimate moments);

  static constexpr double kMinSurvival = 1e-12;

  LengthEstimate moments() const { return beyond_.front(); }
  // E[d | d > age] and E[d² | d > age]. Where nothing lives as long, the end is expected within a bucket's width.
  LengthEstimate moments_beyond(double age) const;
  // P(d > length), at least kMinSurvival: nothing is certain to have ended.
  double survival(double length) const;
  // The smallest length with P(d <= length) >= q, at most the end of the last bucket.
  double quantile(double q) const;

 private:
  static constexpr std::size_t kCount = LengthBuckets::kCount;

  void sum_beyond();

  std::array<double, kCount> hazards_{};
  std::array<LengthEstimate, kCount> ends_{};    // moments of those that end in the bucket
  std::array<LengthEstimate, kCount> beyond_{};  // moments of those that reach the bucket
  std::array<double, kCount> reached_{};         // the share that reaches the bucket
};

}  // namespace blendserve
