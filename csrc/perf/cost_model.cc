#include "perf/cost_model.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>
#include <utility>

#include "base/error.h"

namespace blendserve {

CostModel::CostModel(ModelSpec model, DeviceSpec device) : model_(std::move(model)), device_(std::move(device)) {
  model_.validate();
  device_.validate();
  const double compute = device_.total_flops(model_.weight_bytes);
  const double bandwidth = device_.total_bandwidth();
  const double layers = static_cast<double>(model_.num_layers);
  const double weight_bytes = static_cast<double>(model_.weight_bytes);
  kv_bytes_per_token_ = model_.kv_bytes_per_token();
  t_tok_ = 2 * model_.active_params() / compute;
  t_attn_ = 4 * model_.attention_width * layers / compute;
  t_kv_ = std::max(kv_bytes_per_token_ / bandwidth, model_.decode_flops_per_kv_token() / compute);
  fixed_weight_read_s_ = weight_bytes * (model_.num_params - model_.expert_params) / bandwidth;
  expert_weight_read_s_ = weight_bytes * model_.expert_params / bandwidth;
}

double CostModel::weight_read_s(double num_tokens) const {
  if (!model_.is_moe()) return fixed_weight_read_s_;
  const double share = static_cast<double>(model_.experts_per_token) / static_cast<double>(model_.num_experts);
  return fixed_weight_read_s_ + expert_weight_read_s_ * (1 - std::pow(1 - share, num_tokens));
}

std::int64_t CostModel::kv_capacity_tokens() const {
  constexpr double kBlockTokens = 16;
  const double devices = static_cast<double>(device_.tp);
  const double bytes =
      device_.kv_memory_bytes.value_or((0.9 * device_.memory_bytes - 2e9) * devices - model_.weights_bytes());
  const double blocks = std::floor(bytes / (kBlockTokens * kv_bytes_per_token_));
  if (blocks < 1) {
    std::ostringstream message;
    message << model_.name << " needs " << model_.weights_bytes() / 1e9 << " GB for its weights and "
            << kBlockTokens * kv_bytes_per_token_ / 1e9 << " GB for a block of KV cache, which " << device_.tp << " x "
            << device_.name << " (" << device_.memory_bytes / 1e9
            << " GB each) does not have; raise tp, or take a larger device or smaller elements";
    throw InvalidInput(message.str());
  }
  return static_cast<std::int64_t>(blocks * kBlockTokens);
}

}  // namespace blendserve
