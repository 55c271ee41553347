#include "sim/simulated_executor.h"

namespace blendserve {

BatchDesc batch_of(const StepPlan& plan) {
  BatchDesc batch;
  std::size_t sample = 0;
  for (std::size_t i = 0; i < plan.request_ids.size(); ++i) {
    const std::int32_t num_tokens = plan.qo_indptr[i + 1] - plan.qo_indptr[i];
    const bool is_sampled = sample < plan.sample_ids.size() && plan.sample_ids[sample] == plan.request_ids[i];
    const bool is_decode = num_tokens == 1 && is_sampled && plan.sample_positions[sample] > 0;
    if (is_sampled) ++sample;
    if (is_decode) {
      batch.add_decode(plan.kv_lens[i]);
    } else {
      batch.add_chunk(plan.kv_lens[i] - num_tokens, num_tokens);
      batch.add_logit_rows(is_sampled ? 1 : 0);
    }
  }
  batch.add_logit_rows(static_cast<std::int64_t>(plan.prompt_logit_rows.size()));
  return batch;
}

std::span<const Token> SimulatedExecutor::run(const StepPlan& plan) {
  sampled_.clear();
  for (std::size_t i = 0; i < plan.sample_ids.size(); ++i) {
    const RequestId id = plan.sample_ids[i];
    const bool is_last = plan.sample_positions[i] + 1 == output_lens_[static_cast<std::size_t>(id)];
    sampled_.push_back(is_last ? kStopToken : -1 - static_cast<Token>(id));
  }
  return sampled_;
}

}  // namespace blendserve
