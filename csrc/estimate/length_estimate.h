#pragma once

#include <algorithm>

namespace blendserve {

// In a list of lengths: this one is not known.
inline constexpr double kUnknownLength = -1.0;

inline constexpr double kMaxLength = 2147483647.0;  // a sequence's tokens are counted in 32 bits

// What is expected of an output length d. Memory time is quadratic in d, so a mean alone underestimates it (Jensen).
struct LengthEstimate {
  double mean = 0.0;           // E[d], tokens
  double second_moment = 0.0;  // E[d²], tokens²

  static constexpr LengthEstimate exactly(double len) { return {len, len * len}; }

  friend bool operator==(const LengthEstimate&, const LengthEstimate&) = default;
};

// The estimate for lengths in [0, cap]: mean <= cap and mean² <= second moment <= cap * mean.
inline LengthEstimate capped(LengthEstimate estimate, double cap) {
  const double mean = std::min(estimate.mean, cap);
  return {mean, std::clamp(estimate.second_moment, mean * mean, cap * mean)};
}

}  // namespace blendserve
