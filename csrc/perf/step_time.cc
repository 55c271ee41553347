#include "perf/step_time.h"

#include <algorithm>

namespace blendserve {

StepTime step_time(const CostModel& cost, const BatchDesc& batch, Execution execution) {
  const std::int64_t num_tokens = batch.num_tokens();
  if (num_tokens == 0) return {};
  const DeviceSpec& device = cost.device();
  const std::int64_t k = execution == Execution::kOverlapped ? device.num_nano_batches : 1;
  const std::int64_t tiles = std::max(k, (num_tokens + device.token_tile - 1) / device.token_tile);

  const double attention_s = cost.t_attn() * static_cast<double>(batch.prefill_squares) / static_cast<double>(k);
  const double weights_s = cost.layer_read_s(static_cast<double>(num_tokens) / static_cast<double>(k));
  const auto nano_batch_s = [&](std::int64_t num_tiles) {
    return std::max(cost.layers_s(num_tiles) + attention_s, weights_s);
  };
  const std::int64_t num_larger = tiles % k;
  const double head_s = cost.head_s(batch.num_logit_rows);
  const double compute_s = static_cast<double>(num_larger) * nano_batch_s(tiles / k + 1) +
                           static_cast<double>(k - num_larger) * nano_batch_s(tiles / k) + head_s;
  const double memory_s = cost.t_kv() * static_cast<double>(batch.decode_kv_tokens);

  const double step_s = device.measured ? device.measured->step_s : 0.0;
  if (execution == Execution::kSequential) return {compute_s, memory_s, compute_s + memory_s + step_s};
  const double overlapped_s = std::max(compute_s, memory_s) + device.beta * std::min(compute_s, memory_s);
  const double reads_s =
      static_cast<double>(k) * weights_s + cost.head_s(std::min<std::int64_t>(1, batch.num_logit_rows));
  return {compute_s, memory_s, std::max(overlapped_s, reads_s + memory_s) + step_s};
}

}  // namespace blendserve
