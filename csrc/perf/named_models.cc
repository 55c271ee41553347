#include "perf/named_models.h"

#include "perf/find_named.h"

namespace blendserve {
namespace {

// Vocabulary, hidden size, MLP size, layers, heads, KV heads, head size, context: the fields that every family has.
constexpr Architecture base(std::int64_t vocab_size, std::int64_t hidden_size, std::int64_t intermediate_size,
                            std::int64_t num_layers, std::int64_t num_heads, std::int64_t num_kv_heads,
                            std::int64_t head_dim, std::int64_t max_context) {
  Architecture a;
  a.vocab_size = vocab_size;
  a.hidden_size = hidden_size;
  a.intermediate_size = intermediate_size;
  a.num_layers = num_layers;
  a.num_heads = num_heads;
  a.num_kv_heads = num_kv_heads;
  a.head_dim = head_dim;
  a.max_context = max_context;
  return a;
}

constexpr Architecture tied(Architecture a) {
  a.tied_embeddings = true;
  return a;
}

constexpr Architecture qwen2(Architecture a) {
  a.qkv_bias = true;
  return a;
}

constexpr Architecture qwen3(Architecture a) {
  a.qk_norm = true;
  return a;
}

constexpr Architecture experts(Architecture a, std::int64_t num_experts, std::int64_t experts_per_token,
                               std::int64_t expert_size) {
  a.num_experts = num_experts;
  a.experts_per_token = experts_per_token;
  a.expert_size = expert_size;
  return a;
}

constexpr Architecture deepseek_v3() {
  Architecture a = experts(base(129280, 7168, 18432, 61, 128, 0, 0, 163840), 256, 8, 2048);
  a.num_shared_experts = 1;
  a.num_dense_layers = 3;
  a.q_lora_rank = 1536;
  a.kv_lora_rank = 512;
  a.qk_nope_head_dim = 128;
  a.qk_rope_head_dim = 64;
  a.v_head_dim = 128;
  return a;
}

constexpr NamedModel kModels[] = {
    {"llama-3.1-8b", 8.03e9, base(128256, 4096, 14336, 32, 32, 8, 128, 131072)},
    {"llama-3.1-70b", 70.6e9, base(128256, 8192, 28672, 80, 64, 8, 128, 131072)},
    {"llama-3.2-1b", 1.24e9, tied(base(128256, 2048, 8192, 16, 32, 8, 64, 131072))},
    {"llama-3.2-3b", 3.21e9, tied(base(128256, 3072, 8192, 28, 24, 8, 128, 131072))},
    {"llama-2-7b", 6.74e9, base(32000, 4096, 11008, 32, 32, 32, 128, 4096)},
    {"llama-2-13b", 13.0e9, base(32000, 5120, 13824, 40, 40, 40, 128, 4096)},
    {"llama-2-70b", 69.0e9, base(32000, 8192, 28672, 80, 64, 8, 128, 4096)},
    {"qwen2.5-0.5b", 494e6, tied(qwen2(base(151936, 896, 4864, 24, 14, 2, 64, 32768)))},
    {"qwen2.5-1.5b", 1.54e9, tied(qwen2(base(151936, 1536, 8960, 28, 12, 2, 128, 32768)))},
    {"qwen2.5-3b", 3.09e9, tied(qwen2(base(151936, 2048, 11008, 36, 16, 2, 128, 32768)))},
    {"qwen2.5-7b", 7.62e9, qwen2(base(152064, 3584, 18944, 28, 28, 4, 128, 131072))},
    {"qwen2.5-14b", 14.8e9, qwen2(base(152064, 5120, 13824, 48, 40, 8, 128, 131072))},
    {"qwen2.5-32b", 32.8e9, qwen2(base(152064, 5120, 27648, 64, 40, 8, 128, 131072))},
    {"qwen2.5-72b", 72.7e9, qwen2(base(152064, 8192, 29568, 80, 64, 8, 128, 131072))},
    {"qwen3-0.6b", 596e6, tied(qwen3(base(151936, 1024, 3072, 28, 16, 8, 128, 40960)))},
    {"qwen3-1.7b", 1.72e9, tied(qwen3(base(151936, 2048, 6144, 28, 16, 8, 128, 40960)))},
    {"qwen3-4b", 4.02e9, tied(qwen3(base(151936, 2560, 9728, 36, 32, 8, 128, 40960)))},
    {"qwen3-8b", 8.19e9, qwen3(base(151936, 4096, 12288, 36, 32, 8, 128, 40960))},
    {"qwen3-14b", 14.8e9, qwen3(base(151936, 5120, 17408, 40, 40, 8, 128, 40960))},
    {"qwen3-32b", 32.8e9, qwen3(base(151936, 5120, 25600, 64, 64, 8, 128, 40960))},
    {"qwen3-30b-a3b", 30.5e9, experts(qwen3(base(151936, 2048, 6144, 48, 32, 4, 128, 40960)), 128, 8, 768)},
    {"mistral-7b", 7.24e9, base(32000, 4096, 14336, 32, 32, 8, 128, 32768)},
    {"mixtral-8x7b", 46.7e9, experts(base(32000, 4096, 14336, 32, 32, 8, 128, 32768), 8, 2, 14336)},
    {"deepseek-67b", 67.4e9, base(102400, 8192, 22016, 95, 64, 8, 128, 4096)},
    {"deepseek-v3", 671e9, deepseek_v3()},
    {"smollm2-135m-instruct", 134.5e6, tied(base(49152, 576, 1536, 30, 9, 3, 64, 8192))},
};

}  // namespace

std::span<const NamedModel> named_models() { return kModels; }

ModelSpec ModelSpec::named(std::string_view name) {
  const NamedModel& model = find_named(named_models(), name, "model", "read a model folder's config.json (from_hf)");
  ModelSpec spec = model.architecture.spec(std::string(model.name));
  spec.num_params = model.num_params;
  return spec;
}

}  // namespace blendserve
