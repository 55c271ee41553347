#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "perf/batch_desc.h"
#include "perf/cost_model.h"
#include "perf/step_time.h"
#include "request/time_correction.h"

namespace blendserve {

// Corrects a performance model by the steps that a device runs. After every kPeriod of them the last kWindow are
// fitted, by the least sum of absolute relative deviations, so that a few steps that take far too long count no more
// than others. A factor that the fit leaves uncertain stays: both do where all steps have the same mix of arithmetic
// and reads. So does one from which the fit is not significantly another. Factors are whole powers of the 16th root
// of 2. The correction is a function of what was added.
class TimeCorrector {
 public:
  static constexpr std::size_t kPeriod = 256;  // steps
  static constexpr std::size_t kWindow = 1024;
  static constexpr double kLargest = 16;  // factor; the smallest is 1/16

  TimeCorrector(CostModel cost, Execution execution) : cost_(std::move(cost)), execution_(execution) {}

  // A step took so many seconds, without what the host does between steps. True if the correction has changed.
  // Throws InvalidInput for an empty batch and for a time that is not positive.
  bool add(const BatchDesc& batch, double seconds);

  const TimeCorrection& correction() const { return correction_; }

 private:
  struct Step {
    BatchDesc batch;
    double seconds = 0;
  };
  struct Moments;
  struct Fit {
    TimeCorrection correction;
    TimeCorrection error;  // standard errors, relative
  };

  Fit fit() const;
  TimeCorrection coarse_fit() const;
  double mean_deviation(const TimeCorrection& correction) const;
  Moments moments(const TimeCorrection& correction) const;

  CostModel cost_;
  Execution execution_;
  std::vector<Step> steps_;  // a ring, once full
  std::size_t num_steps_ = 0;
  TimeCorrection correction_;
};

}  // namespace blendserve
