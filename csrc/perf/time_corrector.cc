#include "perf/time_corrector.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "perf/checks.h"

namespace blendserve {
namespace {

constexpr double kStepsPerOctave = 16;
constexpr double kHysteresis = 0.75;      // of such a step, that a factor moves at least
constexpr double kSignificance = 3;       // standard errors
constexpr double kMaxError = 0.1;         // beyond it a factor is uncertain
constexpr double kLeastSpread = 0.05;     // of measured times: the model is never right to less than that
constexpr double kLeastDeviation = 0.01;  // below it deviations count by their squares
constexpr std::size_t kCoarseStride = 8;  // of the window's steps
constexpr int kMaxIterations = 30;
constexpr double kConverged = 1e-4;  // change of a factor
constexpr double kRidge = 1e-9;      // keeps what the steps do not tell where it is

// The factor after `now`, where one was fitted with so large an error.
double next_factor(double now, double fitted, double error) {
  if (error > kMaxError) return now;
  const double bounded = std::clamp(fitted, 1 / TimeCorrector::kLargest, TimeCorrector::kLargest);
  const double least = std::max(kHysteresis / kStepsPerOctave, kSignificance * std::log2(1 + error));
  if (std::abs(std::log2(bounded / now)) <= least) return now;
  return std::exp2(std::round(kStepsPerOctave * std::log2(bounded)) / kStepsPerOctave);
}

double median(std::vector<double>& values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

}  // namespace

// Sums over the steps of a window, at one correction. Times are homogeneous and piecewise linear in the two factors: of
// a time t, a·(share of arithmetic)·t + b·(share of reads)·t is its change by the factors a and b, as long as neither
// changes what bounds the step.
struct TimeCorrector::Moments {
  // Of the shares of arithmetic and of reads.
  struct Products {
    double aa = 0;
    double ar = 0;
    double rr = 0;

    void add(double arithmetic, double reads, double weight) {
      aa += weight * arithmetic * arithmetic;
      ar += weight * arithmetic * reads;
      rr += weight * reads * reads;
    }
    double ridge() const { return kRidge * (aa + rr); }
    double determinant() const { return (aa + ridge()) * (rr + ridge()) - ar * ar; }
  };

  Products plain;
  Products weighted;  // by one over the deviation
  double at = 0;      // weighted, with the deviation
  double rt = 0;
  std::vector<double> deviations;

  void add(const StepTime& predicted, double seconds) {
    const double model_s = predicted.arithmetic_s + predicted.read_s;
    const double arithmetic = predicted.arithmetic_s / model_s;
    const double reads = predicted.read_s / model_s;
    const double deviation = seconds / model_s - 1;
    const double weight = 1 / std::max(std::abs(deviation), kLeastDeviation);
    plain.add(arithmetic, reads, 1);
    weighted.add(arithmetic, reads, weight);
    at += weight * arithmetic * deviation;
    rt += weight * reads * deviation;
    deviations.push_back(std::abs(deviation));
  }

  // What the factors change by in the weighted least squares; at most by an octave. What they do not tell changes
  // nothing.
  TimeCorrection change() const {
    const double compute = ((weighted.rr + weighted.ridge()) * at - weighted.ar * rt) / weighted.determinant();
    const double memory = ((weighted.aa + weighted.ridge()) * rt - weighted.ar * at) / weighted.determinant();
    return {.compute = std::clamp(1 + compute, 0.5, 2.0), .memory = std::clamp(1 + memory, 0.5, 2.0)};
  }

  // The standard errors of a fit by absolute deviations, were they normal: √(π/2) times those of least squares, and
  // their standard deviation 1.4826 times the median.
  TimeCorrection error() {
    const double spread = std::max(kLeastSpread, 1.4826 * median(deviations));
    const double scale = std::sqrt(std::numbers::pi / 2) * spread;
    return {.compute = scale * std::sqrt((plain.rr + plain.ridge()) / plain.determinant()),
            .memory = scale * std::sqrt((plain.aa + plain.ridge()) / plain.determinant())};
  }
};

bool TimeCorrector::add(const BatchDesc& batch, double seconds) {
  require_at_least_one("num_tokens", batch.num_tokens());
  require_positive("seconds", seconds);
  const Step step{batch, seconds};
  if (steps_.size() < kWindow) {
    steps_.push_back(step);
  } else {
    steps_[num_steps_ % kWindow] = step;
  }
  if (++num_steps_ % kPeriod != 0) return false;
  const auto [found, error] = fit();
  const TimeCorrection next{.compute = next_factor(correction_.compute, found.compute, error.compute),
                            .memory = next_factor(correction_.memory, found.memory, error.memory)};
  const bool has_changed = next != correction_;
  correction_ = next;
  return has_changed;
}

TimeCorrector::Fit TimeCorrector::fit() const {
  TimeCorrection guess = coarse_fit();
  for (int i = 0; i < kMaxIterations; ++i) {
    const TimeCorrection change = moments(guess).change();
    guess = {.compute = guess.compute * change.compute, .memory = guess.memory * change.memory};
    if (std::max(std::abs(change.compute - 1), std::abs(change.memory - 1)) < kConverged) break;
  }
  return {.correction = guess, .error = moments(guess).error()};
}

// The best of all octaves: what bounds a step depends on the factors, and refining them finds the nearest fit only.
TimeCorrection TimeCorrector::coarse_fit() const {
  TimeCorrection best = correction_;
  double least = mean_deviation(best);
  for (double compute = 1 / kLargest; compute <= kLargest; compute *= 2) {
    for (double memory = 1 / kLargest; memory <= kLargest; memory *= 2) {
      const TimeCorrection candidate{compute, memory};
      const double deviation = mean_deviation(candidate);
      if (deviation >= least) continue;
      least = deviation;
      best = candidate;
    }
  }
  return best;
}

// Of the logarithms: a step that is predicted to take half the time is as wrong as one of twice the time.
double TimeCorrector::mean_deviation(const TimeCorrection& correction) const {
  double sum = 0;
  std::size_t count = 0;
  for (std::size_t i = 0; i < steps_.size(); i += kCoarseStride, ++count) {
    const StepTime time = step_time(cost_, steps_[i].batch, execution_, correction);
    sum += std::abs(std::log(steps_[i].seconds / (time.arithmetic_s + time.read_s)));
  }
  return sum / static_cast<double>(count);
}

TimeCorrector::Moments TimeCorrector::moments(const TimeCorrection& correction) const {
  Moments moments;
  for (const Step& step : steps_) moments.add(step_time(cost_, step.batch, execution_, correction), step.seconds);
  return moments;
}

}  // namespace blendserve
