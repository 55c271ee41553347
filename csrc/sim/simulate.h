#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "perf/cost_model.h"
#include "perf/step_time.h"
#include "perf/time_corrector.h"
#include "sched/step_scheduler.h"
#include "sim/timeline.h"

namespace blendserve {

struct SimulationConfig {
  Execution execution = Execution::kOverlapped;
  bool counts_scheduling = false;  // add the CPU time of schedule() and update() to every step
  std::size_t timeline_bins = 0;
  // Called with every step before it is updated; nothing if empty.
  std::function<void(const StepPlan&)> on_step = {};
  // Told of the time of every step; what it makes of them corrects the scheduler's policy. None if null.
  TimeCorrector* corrector = nullptr;
  // Polled now and then; false ends the simulation early.
  std::function<bool()> goes_on = [] { return true; };
};

struct SchedulingTime {
  double mean_us = 0;
  double p99_us = 0;
  double total_s = 0;
};

// A run, in seconds of the simulated clock.
struct Simulation {
  double total_s = 0;
  double compute_s = 0;       // Σ c' of the steps
  double memory_s = 0;        // Σ m
  SchedulingTime scheduling;  // measured CPU time of a step: schedule() and update()
  std::vector<TimelineBin> timeline;
};

// Runs `scheduler` until its requests are finished, with an executor that only advances a clock by step_time().
// Request i generates output_lens[i] tokens, the last of them SimulatedExecutor::kStopToken: that must be in its stop
// set, or its limit be that length. Throws InvalidInput unless there is a length of 1 or more for every request.
Simulation simulate(StepScheduler& scheduler, const CostModel& cost, std::span<const std::int32_t> output_lens,
                    const SimulationConfig& config);

}  // namespace blendserve
