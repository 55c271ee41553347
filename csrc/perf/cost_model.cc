#include "perf/cost_model.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>
#include <utility>

#include "base/error.h"

namespace blendserve {
namespace {

constexpr double kWideTolerance = 0.1;

}  // namespace

CostModel::CostModel(ModelSpec model, DeviceSpec device) : model_(std::move(model)), device_(std::move(device)) {
  model_.validate();
  device_.validate();
  kv_bytes_per_token_ = model_.kv_bytes_per_token();
  if (device_.measured) {
    use_measured(*device_.measured);
  } else {
    use_data_sheet();
  }
}

void CostModel::use_data_sheet() {
  const double compute = device_.total_flops(model_.weight_bytes);
  const double bandwidth = device_.total_bandwidth();
  const double layers = static_cast<double>(model_.num_layers);
  t_tok_ = 2 * model_.active_params() / compute;
  t_head_ = 0;
  t_attn_ = 4 * model_.attention_width * layers / compute;
  t_kv_ = std::max(kv_bytes_per_token_ / bandwidth, model_.decode_flops_per_kv_token() / compute);
  set_weight_reads(model_.num_params);
  wide_step_s_ = weight_read_s();
}

void CostModel::use_measured(const MeasuredRates& rates) {
  const double devices = static_cast<double>(device_.tp);
  const double attention = rates.prefill_attention_flops * devices;
  const double layers = static_cast<double>(model_.num_layers);
  t_tok_ = 2 * model_.layer_params() / (rates.layers.best_flops() * devices);
  t_head_ = 2 * model_.head_params / (rates.head.best_flops() * devices);
  t_attn_ = 2 * model_.attention_width * layers / attention;
  t_kv_ = std::max(kv_bytes_per_token_ / (rates.decode_attention_bandwidth * devices),
                   model_.decode_flops_per_kv_token() / attention);
  set_weight_reads(model_.num_params - model_.head_params - model_.embedding_params);
  wide_step_s_ = rates.layers.wide_rows(kWideTolerance) * (t_tok_ + t_head_);
}

void CostModel::set_weight_reads(double num_params) {
  const double bandwidth = device_.total_bandwidth();
  const double weight_bytes = static_cast<double>(model_.weight_bytes);
  fixed_weight_read_s_ = weight_bytes * (num_params - model_.expert_params) / bandwidth;
  expert_weight_read_s_ = weight_bytes * model_.expert_params / bandwidth;
}

double CostModel::layer_read_s(double num_tokens) const {
  if (!model_.is_moe()) return fixed_weight_read_s_;
  const double share = static_cast<double>(model_.experts_per_token) / static_cast<double>(model_.num_experts);
  return fixed_weight_read_s_ + expert_weight_read_s_ * (1 - std::pow(1 - share, num_tokens));
}

double CostModel::layers_s(std::int64_t num_tiles) const {
  const auto tiles = static_cast<double>(num_tiles);
  const auto tile = static_cast<double>(device_.token_tile);
  if (!device_.measured) return tiles * (tile * t_tok_);
  return model_.layer_params() / static_cast<double>(device_.tp) * device_.measured->layers.weight_s(tiles * tile);
}

double CostModel::head_s(std::int64_t num_rows) const {
  if (!device_.measured || num_rows == 0) return 0;
  const double rows = static_cast<double>(num_rows);
  return model_.head_params / static_cast<double>(device_.tp) * device_.measured->head.weight_s(rows);
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
