#pragma once

#include <cstdint>
#include <vector>

#include "estimate/online_estimator.h"
#include "plan/plan.h"

namespace blendserve {

// The work of a plan's requests that wait, kept up to date as they are taken and as their estimates change.
class WaitingWork {
 public:
  WaitingWork(const Plan& plan, const OnlineEstimator& estimator);

  void take(std::int32_t leaf);

  double compute_s() const;
  double memory_s() const;

 private:
  // Sums over the waiting requests of one class, of the estimates they started with.
  struct Sums {
    double output_len = 0;        // Σ E[d], tokens
    double squared_means = 0;     // Σ E[d]², tokens²
    double prompt_by_output = 0;  // Σ p·E[d], tokens²

    void add(const RequestShape& shape, double sign);
  };

  Sums& sums_of(std::int32_t leaf);

  const Plan& plan_;
  const OnlineEstimator& estimator_;
  std::vector<Sums> classes_;  // by class; the last one has the known lengths
  double prefill_s_ = 0;
  std::vector<bool> is_opened_;  // by node: a request below it was taken, its segment is computed
};

}  // namespace blendserve
