#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>

namespace blendserve {

// Steps from now on, in bins that widen geometrically: 8 steps at first, 94,000 in all.
struct Horizon {
  static constexpr std::size_t kBins = 64;

  static double begin(std::size_t bin) { return kEdges[bin]; }
  static double end(std::size_t bin) { return kEdges[bin + 1]; }
  static double width(std::size_t bin) { return end(bin) - begin(bin); }

 private:
  static constexpr double kFirstWidth = 8;
  static constexpr double kRatio = 1.12;
  static constexpr std::array<double, kBins + 1> kEdges = [] {
    std::array<double, kBins + 1> edges{};
    double width = kFirstWidth;
    for (std::size_t bin = 0; bin < kBins; ++bin, width *= kRatio) edges[bin + 1] = edges[bin] + width;
    return edges;
  }();
};

// What one running request is expected to hold of the KV cache from now on. It grows by a token a step until it ends.
struct KvCourse {
  std::size_t num_bins = 0;                     // it has ended before the others
  std::array<double, Horizon::kBins> held;      // expected tokens
  std::array<double, Horizon::kBins> variance;  // of the tokens
  std::array<double, Horizon::kBins> alive;     // share of the bin's steps in which it decodes

  // It holds `len` tokens and goes on for exactly `num_steps`. Held is the most in each bin.
  static KvCourse known(double len, double num_steps);

  // It holds `len` tokens; survival(t) is the probability that it goes on for more than t steps.
  template <typename Survival>
  static KvCourse uncertain(double len, const Survival& survival) {
    KvCourse course;
    double at_begin = 1.0;
    for (std::size_t bin = 0; bin < Horizon::kBins && at_begin > kNegligible; ++bin) {
      const double at_end = survival(Horizon::end(bin));
      const double tokens = len + (Horizon::begin(bin) + Horizon::end(bin)) / 2;
      course.held[bin] = tokens * at_begin;
      course.variance[bin] = tokens * tokens * at_begin * (1.0 - at_begin);
      course.alive[bin] = (at_begin + at_end) / 2;
      course.num_bins = bin + 1;
      at_begin = at_end;
    }
    return course;
  }

 private:
  static constexpr double kNegligible = 0.01;
};

// What all running requests together are expected to hold of the KV cache from now on.
class KvForecast {
 public:
  void clear() { *this = {}; }
  void add(const KvCourse& course);

  // Whether one more request stays within `limit` tokens at all times, with `safety` standard deviations to spare.
  bool has_room_for(const KvCourse& course, double limit, double safety) const;

  double held(std::size_t bin) const { return held_[bin]; }
  double alive(std::size_t bin) const { return alive_[bin]; }
  // Σ over the steps to come of the running requests' decodes.
  double decode_steps() const;

 private:
  std::array<double, Horizon::kBins> held_{};
  std::array<double, Horizon::kBins> variance_{};
  std::array<double, Horizon::kBins> alive_{};
};

}  // namespace blendserve
