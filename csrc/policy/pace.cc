#include "policy/pace.h"

#include <algorithm>
#include <limits>

namespace blendserve {

Pace::Pace(const CostModel& cost, Execution execution)
    : t_kv_(cost.t_kv()),
      beta_(cost.device().beta),
      is_overlapped_(execution == Execution::kOverlapped && beta_ < 1),
      least_s_(is_overlapped_ ? static_cast<double>(cost.device().num_nano_batches) * cost.weight_read_s()
                              : cost.wide_step_s()),
      is_least_read_(is_overlapped_ || !cost.device().measured) {}

double Pace::free_compute_s(double memory_s) const {
  if (!is_overlapped_) return least_s();
  if (beta_ * read_ratio_ * memory_s >= least_s()) return least_s() / beta_;
  return least_s() + (1 - beta_) * read_ratio_ * memory_s;
}

double Pace::cheap_compute_s(double memory_s) const {
  return is_overlapped_ ? std::max(read_ratio_ * memory_s, free_compute_s(memory_s)) : least_s();
}

void Pace::plan(const Work& left, double full_memory_s, const KvForecast& running) {
  const double full_steps = left.waiting_memory_s / full_memory_s;
  double free_s = full_steps * free_compute_s(full_memory_s);
  double cheap_s = full_steps * cheap_compute_s(full_memory_s);
  double num_steps = full_steps;
  for (std::size_t bin = 0; bin < Horizon::kBins; ++bin) {
    if (running.alive(bin) <= 0) break;
    const double memory_s = t_kv_ * running.held(bin);
    free_s += Horizon::width(bin) * free_compute_s(memory_s);
    cheap_s += Horizon::width(bin) * cheap_compute_s(memory_s);
    num_steps += Horizon::width(bin);
  }
  cheap_share_ = cheap_s > free_s ? std::clamp((left.compute_s - free_s) / (cheap_s - free_s), 0.0, 1.0) : 1.0;
  even_s_ = left.compute_s / std::max(1.0, num_steps);
  surplus_s_ = std::max(0.0, left.compute_s - cheap_s) / std::max(1.0, num_steps);
}

double Pace::compute_s(double memory_s) const {
  const double free_s = free_compute_s(memory_s);
  const double cheap_s = cheap_compute_s(memory_s);
  return free_s + cheap_share_ * (cheap_s - free_s) + surplus_s_;
}

}  // namespace blendserve
