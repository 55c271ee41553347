#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace blendserve {

// What the performance model needs to know of a model (docs/performance_model.md).
struct ModelSpec {
  std::string name;
  std::int64_t num_layers = 0;
  // H: such that prefill attention takes 4·p²·H FLOPs a layer. Heads · head_dim, which need not be the hidden size;
  // with MLA heads · (q/k head_dim + v head_dim) / 2.
  double attention_width = 0;
  std::int64_t kv_width = 0;    // H_kv, the width of K (or of V): num_kv_heads · head_dim; 0 with MLA
  double num_params = 0;        // P: all published parameters, input embedding included, once if tied
  double head_params = 0;       // of them, those of the LM head; 0: not told apart
  double embedding_params = 0;  // of them, those that are only looked up: 0 if tied

  // Mixture of experts; all 0 in a dense model.
  std::int64_t num_experts = 0;        // routed experts of a layer
  std::int64_t experts_per_token = 0;  // how many of them a token takes
  double expert_params = 0;            // parameters of the routed experts of all layers together

  // Multi-head latent attention (DeepSeek-V2, V3); all 0 in other models.
  std::int64_t num_heads = 0;
  std::int64_t kv_lora_rank = 0;
  std::int64_t rope_head_dim = 0;

  std::int64_t weight_bytes = 2;   // of one element: 4, 2 or 1
  std::int64_t kv_bytes = 2;       // of one element: 4, 2 or 1
  bool cascade_attention = false;  // the kernel reads a shared prefix once a step for all who share it
  std::optional<std::int64_t> max_context = std::nullopt;  // tokens
  std::optional<std::int64_t> vocab_size = std::nullopt;   // token ids are below it

  // Throws InvalidInput, with the names of named_models() for a name that is none of them.
  static ModelSpec named(std::string_view name);

  // Throws InvalidInput unless every field is in its range and those of MoE and MLA agree with each other.
  void validate() const;

  bool is_moe() const { return num_experts > 0; }
  bool is_mla() const { return kv_lora_rank > 0; }
  // Parameters that one token multiplies with; num_params in a dense model.
  double active_params() const;
  // Of them, those of the decoder layers, which every token passes; all, where head and embedding are not told apart.
  double layer_params() const { return active_params() - head_params - embedding_params; }
  // Bytes of the weights in memory, of all devices together.
  double weights_bytes() const { return static_cast<double>(weight_bytes) * num_params; }
  // Bytes of KV cache a token takes in all layers: K and V, or the compressed latent and its rotary key.
  double kv_bytes_per_token() const;
  // FLOPs in all layers for one KV token read by MLA's decode attention, which works on the latent; 0 in other models,
  // whose decode attention counts as bound by bandwidth.
  double decode_flops_per_kv_token() const;

  bool operator==(const ModelSpec&) const = default;
};

}  // namespace blendserve
