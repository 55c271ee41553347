#include "sim/run_recorder.h"

namespace blendserve {
namespace {

constexpr std::int64_t kSideSteps = 16;  // how often the KV of the memory side is counted

}  // namespace

void RunRecorder::add(const StepScheduler& scheduler, const StepPlan& plan, const StepTime& predicted,
                      double duration_s) {
  if (plan.step == 0) before_ = {};
  if (plan.step % kSideSteps == 0) count_memory_side(scheduler.policy(), plan);
  const KvCache& cache = scheduler.cache();
  const SchedulerStats stats = scheduler.stats();
  const std::int64_t held_blocks = cache.num_blocks() - cache.num_available();
  timeline_.add({.duration_s = duration_s,
                 .predicted_s = predicted.total_s,
                 .compute_s = predicted.compute_s,
                 .memory_s = predicted.memory_s,
                 .num_steps = 1,
                 .num_prompt_tokens = stats.num_prompt_tokens - before_.num_prompt_tokens,
                 .num_cached_tokens = stats.num_cached_tokens - before_.num_cached_tokens,
                 .num_output_tokens = stats.num_output_tokens - before_.num_output_tokens,
                 .num_preemptions = stats.num_preemptions - before_.num_preemptions,
                 .running_s = scheduler.num_running() * duration_s,
                 .held_tokens_s = static_cast<double>(held_blocks * cache.block_size()) * duration_s,
                 .memory_tokens_s = static_cast<double>(memory_side_tokens_) * duration_s});
  before_ = stats;
}

void RunRecorder::count_memory_side(const SchedulingPolicy& policy, const StepPlan& plan) {
  memory_side_tokens_ = 0;
  for (std::size_t i = 0; i < plan.request_ids.size(); ++i) {
    if (policy.is_memory_side(plan.request_ids[i])) memory_side_tokens_ += plan.kv_lens[i];
  }
}

}  // namespace blendserve
