#pragma once

#include <cstdint>
#include <limits>

#include "perf/device_spec.h"
#include "perf/model_spec.h"

namespace blendserve {

// Seconds and bytes of a model on a device: the closed forms of docs/performance_model.md. Pure functions; lengths and
// counts are doubles where they may be estimates or means. p: prompt tokens, d: output tokens.
class CostModel {
 public:
  // Throws InvalidInput unless both are valid.
  CostModel(ModelSpec model, DeviceSpec device);

  const ModelSpec& model() const { return model_; }
  const DeviceSpec& device() const { return device_; }

  double t_tok() const { return t_tok_; }    // s per token: 2·P/compute, P the active parameters
  double t_head() const { return t_head_; }  // s per token that is generated, besides; 0 on a data sheet's device
  double t_attn() const { return t_attn_; }  // s per square token of prefill: 4·H·L/compute
  // s per KV token that a decode step reads: its bytes/bandwidth; with MLA also at least its FLOPs/compute.
  double t_kv() const { return t_kv_; }
  // W: s to read the weights once for a batch of num_tokens. In a mixture of experts those of the experts that are
  // expected to be touched when every token draws its experts evenly and independently.
  double weight_read_s(double num_tokens = 1) const { return layer_read_s(num_tokens) + head_s(1); }
  // Of that, the layers', which nano-batches repeat.
  double layer_read_s(double num_tokens) const;

  // A step's products with the layers' weights, for so many tiles of tokens, and with the LM head's for so many rows.
  // On a data sheet's device every token is charged the head with the layers, and rows cost nothing.
  double layers_s(std::int64_t num_tiles) const;
  double head_s(std::int64_t num_rows) const;
  // Compute of a step that is just wide enough for the products to be efficient: its tokens cost little more than in
  // the widest. By a data sheet that is where it takes as long as reading the weights.
  double wide_step_s() const { return wide_step_s_; }

  // Tokens [begin, end) of a prompt, computed once: t_tok·(end − begin) + t_attn·(end² − begin²).
  double segment_compute_s(double begin, double end) const {
    return (end - begin) * (t_tok_ + t_attn_ * (end + begin));
  }
  double decode_compute_s(double d) const { return (t_tok_ + t_head_) * d; }
  // Comp(r), nothing of the prompt shared: t_tok·(p + d) + t_head·d + t_attn·p².
  double compute_s(double p, double d) const { return segment_compute_s(0, p) + decode_compute_s(d); }
  // Mem(r): t_kv·(p·E[d] + E[d²]/2). A length that is known has E[d²] = d².
  double memory_s(double p, double mean_d, double second_moment_d) const {
    return t_kv_ * (p * mean_d + second_moment_d / 2);
  }
  double memory_s(double p, double d) const { return memory_s(p, d, d * d); }

  double kv_bytes_per_token() const { return kv_bytes_per_token_; }
  // Tokens of KV cache, in whole blocks of 16: of device.kv_memory_bytes, or of (0.9 · memory − 2e9)·tp − weights.
  // Throws InvalidInput when no block fits.
  std::int64_t kv_capacity_tokens() const;

 private:
  ModelSpec model_;
  DeviceSpec device_;
  void use_data_sheet();
  void use_measured(const MeasuredRates& rates);
  void set_weight_reads(double num_params);

  double kv_bytes_per_token_;
  double t_tok_;
  double t_head_;
  double t_attn_;
  double t_kv_;
  double wide_step_s_;
  double fixed_weight_read_s_;   // of the parameters that every batch reads
  double expert_weight_read_s_;  // of all routed experts
};

// ρ: compute / memory time; +infinity without memory time, so never NaN.
inline double density(double compute_s, double memory_s) {
  return memory_s > 0 ? compute_s / memory_s : std::numeric_limits<double>::infinity();
}

}  // namespace blendserve
