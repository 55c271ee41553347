#include "perf/step_time.h"

#include <algorithm>

namespace blendserve {

StepTime step_time(const CostModel& cost, const BatchDesc& batch, Execution execution) {
  const std::int64_t num_tokens = batch.num_tokens();
  if (num_tokens == 0) return {};
  const DeviceSpec& device = cost.device();
  const std::int64_t k = execution == Execution::kOverlapped ? device.num_nano_batches : 1;
  const std::int64_t tiles = std::max(k, (num_tokens + device.token_tile - 1) / device.token_tile);

  const double tile_s = static_cast<double>(device.token_tile) * cost.t_tok();
  const double attention_s = cost.t_attn() * static_cast<double>(batch.prefill_squares) / static_cast<double>(k);
  const double weights_s = cost.weight_read_s(static_cast<double>(num_tokens) / static_cast<double>(k));
  const auto nano_batch_s = [&](std::int64_t num_tiles) {
    return std::max(static_cast<double>(num_tiles) * tile_s + attention_s, weights_s);
  };
  const std::int64_t num_larger = tiles % k;
  const double compute_s = static_cast<double>(num_larger) * nano_batch_s(tiles / k + 1) +
                           static_cast<double>(k - num_larger) * nano_batch_s(tiles / k);
  const double memory_s = cost.t_kv() * static_cast<double>(batch.decode_kv_tokens);

  if (execution == Execution::kSequential) return {compute_s, memory_s, compute_s + memory_s};
  const double overlapped_s = std::max(compute_s, memory_s) + device.beta * std::min(compute_s, memory_s);
  return {compute_s, memory_s, std::max(overlapped_s, static_cast<double>(k) * weights_s + memory_s)};
}

}  // namespace blendserve
