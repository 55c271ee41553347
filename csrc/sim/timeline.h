#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace blendserve {

// A stretch of a run, as sums over its steps.
struct TimelineBin {
  double duration_s = 0;
  double predicted_s = 0;  // by the performance model, as are the next two
  double compute_s = 0;
  double memory_s = 0;
  std::int64_t num_steps = 0;
  std::int64_t num_prompt_tokens = 0;  // of requests admitted
  std::int64_t num_cached_tokens = 0;  // of these, found in the cache
  std::int64_t num_output_tokens = 0;
  std::int64_t num_preemptions = 0;
  double running_s = 0;        // running requests x seconds
  double held_tokens_s = 0;    // tokens of KV cache held by running requests, in whole blocks, x seconds
  double memory_tokens_s = 0;  // of these, by requests of the memory side, x seconds

  TimelineBin& operator+=(const TimelineBin& other);
};

// The course of a run in at most `max_bins` stretches of about the same duration, however long it takes: when there are
// too many, neighbours are merged.
class Timeline {
 public:
  explicit Timeline(std::size_t max_bins) : max_bins_(max_bins) {}

  // Steps in order of time.
  void add(const TimelineBin& step);
  const std::vector<TimelineBin>& bins() const { return bins_; }

 private:
  void merge_neighbours();

  std::size_t max_bins_;
  double bin_s_ = 0;  // a bin that lasts as long is full
  std::vector<TimelineBin> bins_;
};

}  // namespace blendserve
