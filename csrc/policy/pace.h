#pragma once

#include "perf/cost_model.h"
#include "perf/step_time.h"
#include "policy/kv_forecast.h"
#include "request/time_correction.h"

namespace blendserve {

// How much compute a step should do beside the memory time m of its decodes, so that both run out together.
//
// A step of compute c takes max(c + β·m, m + β·c, W + m) (perf/step_time.h). So for a given m compute is free up to
// where the weights and the KV cache take as long to read, costs β of itself up to m, and all of itself beyond. Time is
// least when the job's compute fills what is free in all steps to come first, then what is cheap; the rest is spread
// evenly over them. The whole is then one linear function of c and m, and no step pays for another.
//
// A sequential step takes c + m. What is free there is what makes it wide enough for its products to be efficient.
//
// All times are the performance model's. Where a device takes longer, by its factors for arithmetic and for reads, only
// their ratio says how much compute goes with a memory time.
class Pace {
 public:
  Pace(const CostModel& cost, Execution execution);

  // Before the next plan().
  void correct(const TimeCorrection& correction) { read_ratio_ = correction.memory / correction.compute; }

  double free_compute_s(double memory_s) const;
  double cheap_compute_s(double memory_s) const;

  // Seconds that are left of a job.
  struct Work {
    double compute_s = 0;
    double waiting_memory_s = 0;
  };

  // While requests wait the steps' memory time is `full_memory_s`, then that of `running` as forecast.
  void plan(const Work& left, double full_memory_s, const KvForecast& running);

  // What there is for each of the steps to come, if it were the same for all.
  double even_compute_s() const { return even_s_; }
  // Whether the rest of the job takes as long as its weights and KV cache take to read: then only fewer steps save
  // time.
  bool is_bus_bound() const { return cheap_share_ == 0 && surplus_s_ == 0; }
  // For the next step, of which the decodes take memory_s.
  double compute_s(double memory_s) const;

 private:
  double least_s() const { return is_least_read_ ? read_ratio_ * least_s_ : least_s_; }

  double t_kv_;
  double beta_;
  bool is_overlapped_;      // where overlap gains nothing (beta 1) steps are paced as without
  double least_s_;          // what is free in any step: k·W, or what makes a sequential one wide
  bool is_least_read_;      // whether that is what reading the weights takes, or was measured as it is
  double read_ratio_ = 1;   // of the factors for reads and for arithmetic
  double cheap_share_ = 1;  // of what is cheap, beyond what is free
  double even_s_ = 0;
  double surplus_s_ = 0;  // a step, beyond what is cheap
};

}  // namespace blendserve
