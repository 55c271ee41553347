#include "perf/model_spec.h"

#include "perf/checks.h"

namespace blendserve {

double ModelSpec::active_params() const {
  if (!is_moe()) return num_params;
  const double share = static_cast<double>(experts_per_token) / static_cast<double>(num_experts);
  return num_params - expert_params * (1 - share);
}

double ModelSpec::kv_bytes_per_token() const {
  const std::int64_t elements = is_mla() ? kv_lora_rank + rope_head_dim : 2 * kv_width;
  return static_cast<double>(elements * num_layers * kv_bytes);
}

double ModelSpec::decode_flops_per_kv_token() const {
  if (!is_mla()) return 0;
  return static_cast<double>(2 * num_heads * (2 * kv_lora_rank + rope_head_dim) * num_layers);
}

void ModelSpec::validate() const {
  require_at_least_one("num_layers", num_layers);
  require_positive("attention_width", attention_width);
  require_positive("num_params", num_params);
  require(head_params >= 0, "head_params", head_params, "0 (not told apart) or more");
  require(embedding_params >= 0, "embedding_params", embedding_params, "0 (tied) or more");
  require_element_bytes("weight_bytes", weight_bytes);
  require_element_bytes("kv_bytes", kv_bytes);
  if (max_context) require_at_least_one("max_context", *max_context);
  if (vocab_size) require_at_least_one("vocab_size", *vocab_size);

  require(num_experts >= 0, "num_experts", num_experts, "0 (a dense model) or more");
  if (is_moe()) {
    require(experts_per_token >= 1 && experts_per_token <= num_experts, "experts_per_token", experts_per_token,
            "between 1 and num_experts");
    require(expert_params > 0 && expert_params < num_params, "expert_params", expert_params,
            "positive and less than num_params");
  } else {
    require(experts_per_token == 0, "experts_per_token", experts_per_token, "0 without num_experts");
    require(expert_params == 0, "expert_params", expert_params, "0 without num_experts");
  }

  require(layer_params() > 0, "num_params", num_params, "more than those of head, embedding and experts not taken");

  require(kv_lora_rank >= 0, "kv_lora_rank", kv_lora_rank, "0 (no MLA) or more");
  if (is_mla()) {
    require_at_least_one("num_heads", num_heads);
    require(rope_head_dim >= 0, "rope_head_dim", rope_head_dim, "0 or more");
    require(kv_width == 0, "kv_width", kv_width, "0 with kv_lora_rank: MLA stores no K and V");
  } else {
    require(kv_width >= 1, "kv_width", kv_width, "at least 1, or kv_lora_rank must be given");
    require(num_heads == 0, "num_heads", num_heads, "0 without kv_lora_rank: only MLA uses it");
    require(rope_head_dim == 0, "rope_head_dim", rope_head_dim, "0 without kv_lora_rank: only MLA uses it");
  }
}

}  // namespace blendserve
