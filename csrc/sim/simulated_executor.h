#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/ids.h"
#include "perf/batch_desc.h"
#include "sched/step_plan.h"

namespace blendserve {

// What the time of a step depends on. A sequence decodes when its one token yields a further output token; all others
// are prefill chunks, also the last token of a prompt.
BatchDesc batch_of(const StepPlan& plan);

// Takes the place of a model: every request generates as many tokens as it is told to and then kStopToken. Its tokens
// are negative and its own: what it generated is never found in a prompt, nor in what another request generated.
class SimulatedExecutor {
 public:
  static constexpr Token kStopToken = INT32_MAX;

  // output_lens[id] >= 1, the stop token included; borrowed.
  explicit SimulatedExecutor(std::span<const std::int32_t> output_lens) : output_lens_(output_lens) {}

  // The next token of each of plan.sample_ids; valid until the next call.
  std::span<const Token> run(const StepPlan& plan);

 private:
  std::span<const std::int32_t> output_lens_;
  std::vector<Token> sampled_;
};

}  // namespace blendserve
