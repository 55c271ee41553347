#include "perf/step_time.h"

#include <algorithm>

namespace blendserve {
namespace {

// Seconds, by what they are spent on.
struct Parts {
  double arithmetic_s = 0;
  double read_s = 0;

  double sum() const { return arithmetic_s + read_s; }
};

Parts operator+(const Parts& a, const Parts& b) { return {a.arithmetic_s + b.arithmetic_s, a.read_s + b.read_s}; }
Parts operator*(double factor, const Parts& parts) { return {factor * parts.arithmetic_s, factor * parts.read_s}; }
Parts longer(const Parts& a, const Parts& b) { return a.sum() < b.sum() ? b : a; }
Parts shorter(const Parts& a, const Parts& b) { return a.sum() < b.sum() ? a : b; }

}  // namespace

StepTime step_time(const CostModel& cost, const BatchDesc& batch, Execution execution,
                   const TimeCorrection& correction) {
  const std::int64_t num_tokens = batch.num_tokens();
  if (num_tokens == 0) return {};
  const DeviceSpec& device = cost.device();
  const std::int64_t k = execution == Execution::kOverlapped ? device.num_nano_batches : 1;
  const std::int64_t tiles = std::max(k, (num_tokens + device.token_tile - 1) / device.token_tile);
  const auto arithmetic = [&](double seconds) { return Parts{.arithmetic_s = correction.compute * seconds}; };
  const auto reads = [&](double seconds) { return Parts{.read_s = correction.memory * seconds}; };

  const double attention_s = cost.t_attn() * static_cast<double>(batch.prefill_squares) / static_cast<double>(k);
  const Parts weights = reads(cost.layer_read_s(static_cast<double>(num_tokens) / static_cast<double>(k)));
  const auto nano_batch = [&](std::int64_t num_tiles) {
    return longer(arithmetic(cost.layers_s(num_tiles) + attention_s), weights);
  };
  const std::int64_t num_larger = tiles % k;
  const Parts compute = static_cast<double>(num_larger) * nano_batch(tiles / k + 1) +
                        static_cast<double>(k - num_larger) * nano_batch(tiles / k) +
                        arithmetic(cost.head_s(batch.num_logit_rows));
  const Parts memory = reads(cost.t_kv() * static_cast<double>(batch.decode_kv_tokens));

  Parts model = compute + memory;
  if (execution == Execution::kOverlapped) {
    const Parts overlapped = longer(compute, memory) + device.beta * shorter(compute, memory);
    const Parts all_reads = static_cast<double>(k) * weights +
                            arithmetic(cost.head_s(std::min<std::int64_t>(1, batch.num_logit_rows))) + memory;
    model = longer(overlapped, all_reads);
  }
  const double step_s = device.measured ? device.measured->step_s : 0.0;
  return {.compute_s = compute.sum(),
          .memory_s = memory.sum(),
          .total_s = model.sum() + step_s,
          .arithmetic_s = model.arithmetic_s,
          .read_s = model.read_s};
}

}  // namespace blendserve
