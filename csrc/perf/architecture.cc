#include "perf/architecture.h"

#include <utility>

#include "perf/checks.h"

namespace blendserve {
namespace {

std::int64_t latent_attention_params(const Architecture& a) {
  const std::int64_t qk_width = a.num_heads * (a.qk_nope_head_dim + a.qk_rope_head_dim);
  const std::int64_t queries =
      a.q_lora_rank > 0 ? a.q_lora_rank * (a.hidden_size + 1 + qk_width) : a.hidden_size * qk_width;
  const std::int64_t compress = a.hidden_size * (a.kv_lora_rank + a.qk_rope_head_dim) + a.kv_lora_rank;
  const std::int64_t expand = a.kv_lora_rank * a.num_heads * (a.qk_nope_head_dim + a.v_head_dim);
  return queries + compress + expand + a.num_heads * a.v_head_dim * a.hidden_size;
}

std::int64_t attention_params(const Architecture& a) {
  if (a.kv_lora_rank > 0) return latent_attention_params(a);
  const std::int64_t q_width = a.num_heads * a.head_dim;
  const std::int64_t kv_width = a.num_kv_heads * a.head_dim;
  return 2 * a.hidden_size * (q_width + kv_width) + (a.qkv_bias ? q_width + 2 * kv_width : 0) +
         (a.output_bias ? a.hidden_size : 0) + (a.qk_norm ? 2 * a.head_dim : 0);
}

std::int64_t dense_mlp_params(const Architecture& a) {
  return 3 * a.hidden_size * a.intermediate_size + (a.mlp_bias ? 2 * a.intermediate_size + a.hidden_size : 0);
}

std::int64_t num_dense_layers(const Architecture& a) { return a.num_experts > 0 ? a.num_dense_layers : a.num_layers; }

}  // namespace

double Architecture::expert_params() const {
  return static_cast<double>((num_layers - blendserve::num_dense_layers(*this)) * num_experts) *
         static_cast<double>(3 * hidden_size * expert_size);
}

double Architecture::num_params() const {
  const std::int64_t num_dense = blendserve::num_dense_layers(*this);
  const std::int64_t router_and_shared = hidden_size * num_experts + 3 * hidden_size * expert_size * num_shared_experts;
  const std::int64_t embeddings = (tied_embeddings ? 1 : 2) * vocab_size * hidden_size;
  const std::int64_t without_experts =
      embeddings + hidden_size + num_layers * (attention_params(*this) + norms_per_layer * hidden_size) +
      num_dense * dense_mlp_params(*this) + (num_layers - num_dense) * router_and_shared;
  return static_cast<double>(without_experts) + expert_params();
}

void Architecture::validate() const {
  require_at_least_one("vocab_size", vocab_size);
  require_at_least_one("hidden_size", hidden_size);
  require_at_least_one("num_layers", num_layers);
  require_at_least_one("num_heads", num_heads);
  if (blendserve::num_dense_layers(*this) > 0) require_at_least_one("intermediate_size", intermediate_size);
  if (num_experts > 0) {
    require_at_least_one("expert_size", expert_size);
    require(num_dense_layers >= 0 && num_dense_layers < num_layers, "num_dense_layers", num_dense_layers,
            "at least 0 and less than num_layers");
  }
  if (kv_lora_rank > 0) {
    require_at_least_one("qk_nope_head_dim", qk_nope_head_dim);
    require_at_least_one("qk_rope_head_dim", qk_rope_head_dim);
    require_at_least_one("v_head_dim", v_head_dim);
  } else {
    require_at_least_one("num_kv_heads", num_kv_heads);
    require_at_least_one("head_dim", head_dim);
  }
}

ModelSpec Architecture::spec(std::string name) const {
  validate();
  ModelSpec spec;
  spec.name = std::move(name);
  spec.num_layers = num_layers;
  spec.num_params = num_params();
  spec.head_params = vocab_params();
  spec.embedding_params = tied_embeddings ? 0 : vocab_params();
  if (kv_lora_rank > 0) {
    spec.attention_width = static_cast<double>(num_heads * (qk_nope_head_dim + qk_rope_head_dim + v_head_dim)) / 2;
    spec.num_heads = num_heads;
    spec.kv_lora_rank = kv_lora_rank;
    spec.rope_head_dim = qk_rope_head_dim;
  } else {
    spec.attention_width = static_cast<double>(num_heads * head_dim);
    spec.kv_width = num_kv_heads * head_dim;
  }
  if (num_experts > 0) {
    spec.num_experts = num_experts;
    spec.experts_per_token = experts_per_token;
    spec.expert_params = expert_params();
  }
  if (max_context > 0) spec.max_context = max_context;
  spec.vocab_size = vocab_size;
  spec.validate();
  return spec;
}

}  // namespace blendserve
