#pragma once

#include <cstdint>
#include <string>

#include "perf/model_spec.h"

namespace blendserve {

// The shape of a decoder-only transformer with gated MLPs, as a config.json states it, down to what its parameters
// are counted from.
struct Architecture {
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;  // of a dense layer's MLP
  std::int64_t num_layers = 0;
  std::int64_t num_heads = 0;
  std::int64_t num_kv_heads = 0;  // unused with MLA
  std::int64_t head_dim = 0;      // unused with MLA
  bool tied_embeddings = false;   // one matrix is input embedding and LM head
  bool qkv_bias = false;
  bool output_bias = false;  // of the attention's output projection
  bool mlp_bias = false;
  bool qk_norm = false;  // a norm of head_dim on queries and one on keys
  std::int64_t norms_per_layer = 2;

  // Mixture of experts; num_experts 0: every layer is dense.
  std::int64_t num_experts = 0;
  std::int64_t experts_per_token = 0;
  std::int64_t expert_size = 0;         // intermediate size of one expert
  std::int64_t num_shared_experts = 0;  // every token takes them
  std::int64_t num_dense_layers = 0;    // layers without experts

  // Multi-head latent attention; kv_lora_rank 0: K and V are stored.
  std::int64_t q_lora_rank = 0;  // 0: queries are not compressed
  std::int64_t kv_lora_rank = 0;
  std::int64_t qk_nope_head_dim = 0;
  std::int64_t qk_rope_head_dim = 0;
  std::int64_t v_head_dim = 0;

  std::int64_t max_context = 0;  // tokens; 0: not stated

  // Throws InvalidInput unless the sizes are positive and those of MoE and MLA complete.
  void validate() const;
  // All parameters, embeddings counted once if tied.
  double num_params() const;
  // Of the input embedding, and of the LM head.
  double vocab_params() const { return static_cast<double>(vocab_size * hidden_size); }
  // Of the routed experts of all layers.
  double expert_params() const;
  ModelSpec spec(std::string name) const;
};

}  // namespace blendserve
