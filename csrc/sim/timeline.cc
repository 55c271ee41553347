#include "sim/timeline.h"

namespace blendserve {

TimelineBin& TimelineBin::operator+=(const TimelineBin& other) {
  duration_s += other.duration_s;
  predicted_s += other.predicted_s;
  compute_s += other.compute_s;
  memory_s += other.memory_s;
  num_steps += other.num_steps;
  num_prompt_tokens += other.num_prompt_tokens;
  num_cached_tokens += other.num_cached_tokens;
  num_output_tokens += other.num_output_tokens;
  num_preemptions += other.num_preemptions;
  running_s += other.running_s;
  held_tokens_s += other.held_tokens_s;
  memory_tokens_s += other.memory_tokens_s;
  return *this;
}

void Timeline::add(const TimelineBin& step) {
  if (max_bins_ == 0) return;
  if (bins_.empty() || bins_.back().duration_s >= bin_s_) {
    if (bins_.size() == max_bins_) merge_neighbours();
    if (bins_.empty() || bins_.back().duration_s >= bin_s_) bins_.emplace_back();
  }
  bins_.back() += step;
}

// A bin is full at the mean duration, which one slow step does not decide.
void Timeline::merge_neighbours() {
  std::size_t kept = 0;
  double total_s = 0;
  for (std::size_t i = 0; i < bins_.size(); i += 2, ++kept) {
    bins_[kept] = bins_[i];
    if (i + 1 < bins_.size()) bins_[kept] += bins_[i + 1];
    total_s += bins_[kept].duration_s;
  }
  bins_.resize(kept);
  bin_s_ = total_s / static_cast<double>(kept);
}

}  // namespace blendserve
