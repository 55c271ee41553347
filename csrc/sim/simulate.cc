#include "sim/simulate.h"

#include <algorithm>
#include <ctime>
#include <memory>
#include <numeric>
#include <string>

#include "base/error.h"
#include "sim/simulated_executor.h"

namespace blendserve {
namespace {

constexpr std::int64_t kPollSteps = 4096;
constexpr std::int64_t kSideSteps = 16;  // how often the KV of the memory side is counted

// CPU time of this thread: what else runs on the machine does not count.
double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

void check_lengths(const StepScheduler& scheduler, std::span<const std::int32_t> output_lens) {
  if (static_cast<std::int64_t>(output_lens.size()) != scheduler.num_requests()) {
    throw InvalidInput("there are " + std::to_string(output_lens.size()) + " output lengths for " +
                       std::to_string(scheduler.num_requests()) + " requests");
  }
  const auto bad = std::ranges::find_if(output_lens, [](std::int32_t len) { return len < 1; });
  if (bad != output_lens.end()) {
    throw InvalidInput("output length " + std::to_string(bad - output_lens.begin()) + " is " + std::to_string(*bad) +
                       "; it must be at least 1");
  }
}

SchedulingTime summarize(std::vector<float>& step_us) {
  if (step_us.empty()) return {};
  const double total_us = std::accumulate(step_us.begin(), step_us.end(), 0.0);
  const auto p99 = step_us.begin() + static_cast<std::ptrdiff_t>(step_us.size() * 99 / 100);
  std::ranges::nth_element(step_us, p99);
  return {total_us / static_cast<double>(step_us.size()), *p99, total_us / 1e6};
}

// What a timeline needs to know of the scheduler before and after each step.
class Recorder {
 public:
  Recorder(const StepScheduler& scheduler, std::size_t max_bins) : scheduler_(scheduler), timeline_(max_bins) {}

  // After `plan` was updated.
  void add(const StepPlan& plan, const StepTime& time, double step_s) {
    if (plan.step % kSideSteps == 0) count_memory_side(plan);
    const KvCache& cache = scheduler_.cache();
    const SchedulerStats stats = scheduler_.stats();
    const std::int64_t held_blocks = cache.num_blocks() - cache.num_available();
    timeline_.add({.duration_s = step_s,
                   .compute_s = time.compute_s,
                   .memory_s = time.memory_s,
                   .num_steps = 1,
                   .num_prompt_tokens = stats.num_prompt_tokens - before_.num_prompt_tokens,
                   .num_cached_tokens = stats.num_cached_tokens - before_.num_cached_tokens,
                   .num_output_tokens = stats.num_output_tokens - before_.num_output_tokens,
                   .running_s = scheduler_.num_running() * step_s,
                   .held_tokens_s = static_cast<double>(held_blocks * cache.block_size()) * step_s,
                   .memory_tokens_s = static_cast<double>(memory_side_tokens_) * step_s});
    before_ = stats;
  }

  const std::vector<TimelineBin>& bins() const { return timeline_.bins(); }

 private:
  void count_memory_side(const StepPlan& plan) {
    memory_side_tokens_ = 0;
    for (std::size_t i = 0; i < plan.request_ids.size(); ++i) {
      if (scheduler_.policy().is_memory_side(plan.request_ids[i])) memory_side_tokens_ += plan.kv_lens[i];
    }
  }

  const StepScheduler& scheduler_;
  Timeline timeline_;
  SchedulerStats before_;
  std::int64_t memory_side_tokens_ = 0;
};

}  // namespace

Simulation simulate(StepScheduler& scheduler, const CostModel& cost, std::span<const std::int32_t> output_lens,
                    const SimulationConfig& config) {
  check_lengths(scheduler, output_lens);
  SimulatedExecutor executor(output_lens);
  Recorder recorder(scheduler, config.timeline_bins);
  Simulation simulation;
  std::vector<float> step_us;
  while (scheduler.stats().num_steps % kPollSteps != 0 || config.goes_on()) {
    const double start = cpu_seconds();
    const std::shared_ptr<const StepPlan> plan = scheduler.schedule();
    double cpu_s = cpu_seconds() - start;
    if (!plan) break;
    const StepTime time = step_time(cost, batch_of(*plan), config.execution);
    const auto sampled = executor.run(*plan);
    if (config.on_step) config.on_step(*plan);

    const double update_start = cpu_seconds();
    scheduler.update(*plan, sampled);
    cpu_s += cpu_seconds() - update_start;

    step_us.push_back(static_cast<float>(cpu_s * 1e6));
    const double step_s = time.total_s + (config.counts_scheduling ? cpu_s : 0.0);
    simulation.total_s += step_s;
    simulation.compute_s += time.compute_s;
    simulation.memory_s += time.memory_s;
    if (config.timeline_bins > 0) recorder.add(*plan, time, step_s);
  }
  simulation.scheduling = summarize(step_us);
  simulation.timeline = recorder.bins();
  return simulation;
}

}  // namespace blendserve
