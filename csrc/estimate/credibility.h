#pragma once

#include <algorithm>

namespace blendserve {

// Weighted evidence of one subtree: enough for its mean, its second moment and its effective number of observations.
struct EvidenceSums {
  double weight = 0.0;          // Σw
  double weight_squares = 0.0;  // Σw²
  double sum = 0.0;             // Σw·d
  double sum_squares = 0.0;     // Σw·d²

  void add(double w, double d) { add({w, w * w, w * d, w * d * d}); }
  void add(const EvidenceSums& other) {
    weight += other.weight;
    weight_squares += other.weight_squares;
    sum += other.sum;
    sum_squares += other.sum_squares;
  }
  bool empty() const { return weight <= 0.0; }
  double count() const { return weight * weight / weight_squares; }  // Kish's effective sample size
  double mean() const { return sum / weight; }
  double second_moment() const { return sum_squares / weight; }
  double variance() const { return std::max(0.0, second_moment() - mean() * mean()); }
};

// How much siblings have in common: k of credibility theory, "an estimate from n observations counts n / (n + k)".
//
//   k = s² / a      s²: variance within the siblings, a: variance between their true means
//
// by the nonparametric estimators of Bühlmann and Straub (1970; Klugman, Panjer and Willmot, Loss Models, ch. 18):
//
//   s² = Σ_v n_v·var_v / Σ_v (n_v - 1)
//   a  = (Σ_v n_v·(mean_v - mean)² - (G - 1)·s²) / (n - Σ_v n_v² / n)      G siblings, n = Σ_v n_v
//
// `a` is then averaged with s² / kDefaultStrength, as if that had been seen at one more sibling: few siblings say
// little.
class SiblingSpread {
 public:
  static constexpr double kDefaultStrength = 8.0;  // where there is too little evidence; observations
  static constexpr double kMinStrength = 0.1;
  static constexpr double kMaxStrength = 1000.0;

  void add(const EvidenceSums& sibling) {
    const double n = sibling.count();
    num_siblings_ += 1.0;
    count_ += n;
    count_squares_ += n * n;
    sum_ += n * sibling.mean();
    sum_squares_ += n * sibling.mean() * sibling.mean();
    within_ += n * sibling.variance();
  }

  double strength() const {
    const double degrees = count_ - num_siblings_;
    if (num_siblings_ < 2.0 || degrees < kMinDegrees) return kDefaultStrength;
    const double within = within_ / degrees;
    const double mean = sum_ / count_;
    const double between_sum = sum_squares_ - count_ * mean * mean - (num_siblings_ - 1.0) * within;
    const double between = std::max(0.0, between_sum / (count_ - count_squares_ / count_));
    const double smoothed = ((num_siblings_ - 1.0) * between + within / kDefaultStrength) / num_siblings_;
    if (smoothed <= 0.0) return kDefaultStrength;
    return std::clamp(within / smoothed, kMinStrength, kMaxStrength);
  }

 private:
  static constexpr double kMinDegrees = 4.0;  // of freedom within the siblings

  double num_siblings_ = 0.0;
  double count_ = 0.0;
  double count_squares_ = 0.0;
  double sum_ = 0.0;
  double sum_squares_ = 0.0;
  double within_ = 0.0;
};

}  // namespace blendserve
