#include "sim/simulate.h"

#include <algorithm>
#include <ctime>
#include <memory>
#include <numeric>
#include <string>

#include "base/error.h"
#include "sim/run_recorder.h"
#include "sim/simulated_executor.h"

namespace blendserve {
namespace {

constexpr std::int64_t kPollSteps = 4096;

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

}  // namespace

Simulation simulate(StepScheduler& scheduler, const CostModel& cost, std::span<const std::int32_t> output_lens,
                    const SimulationConfig& config) {
  check_lengths(scheduler, output_lens);
  SimulatedExecutor executor(output_lens);
  RunRecorder recorder(config.timeline_bins);
  Simulation simulation;
  std::vector<float> step_us;
  while (scheduler.stats().num_steps % kPollSteps != 0 || config.goes_on()) {
    const double start = cpu_seconds();
    const std::shared_ptr<const StepPlan> plan = scheduler.schedule();
    double cpu_s = cpu_seconds() - start;
    if (!plan) break;
    const BatchDesc batch = batch_of(*plan);
    const StepTime time = step_time(cost, batch, config.execution);
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
    if (config.corrector != nullptr && config.corrector->add(batch, time.arithmetic_s + time.read_s)) {
      scheduler.correct_times(config.corrector->correction());
    }
    if (config.timeline_bins > 0) recorder.add(scheduler, *plan, time, step_s);
  }
  simulation.scheduling = summarize(step_us);
  simulation.timeline = recorder.bins();
  return simulation;
}

}  // namespace blendserve
