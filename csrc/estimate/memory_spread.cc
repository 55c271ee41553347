#include "estimate/memory_spread.h"

#include <algorithm>
#include <cmath>

namespace blendserve {

// Moments of x = min(d, M) for exponential d with mean μ, by parts: E[x^k] = k·μ·(E[x^(k-1)] - M^(k-1)·exp(-M/μ)).
double memory_spread(std::int32_t prompt_len, double mean_len, double max_len) {
  const double p = prompt_len;
  const double reached = std::exp(-max_len / mean_len);
  const double m1 = -mean_len * std::expm1(-max_len / mean_len);
  const double m2 = 2.0 * mean_len * (m1 - max_len * reached);
  const double m3 = 3.0 * mean_len * (m2 - max_len * max_len * reached);
  const double m4 = 4.0 * mean_len * (m3 - max_len * max_len * max_len * reached);
  const double variance = p * p * (m2 - m1 * m1) + p * (m3 - m1 * m2) + (m4 - m2 * m2) / 4.0;
  return std::sqrt(std::max(0.0, variance));
}

}  // namespace blendserve
