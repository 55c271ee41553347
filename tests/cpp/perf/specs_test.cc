#include <catch2/catch.hpp>
#include <functional>
#include <string>

#include "base/error.h"
#include "perf/named_devices.h"
#include "perf/named_models.h"

using namespace blendserve;

namespace {

void check_refused(const std::function<void(ModelSpec&)>& spoil, const std::string& complaint,
                   const std::string& model = "llama-3.1-8b") {
  ModelSpec spec = ModelSpec::named(model);
  spoil(spec);
  CHECK_THROWS_WITH(spec.validate(), Catch::Matchers::Contains(complaint));
}

void check_refused(const std::function<void(DeviceSpec&)>& spoil, const std::string& complaint) {
  DeviceSpec spec = DeviceSpec::named("a100-sxm-80gb");
  spoil(spec);
  CHECK_THROWS_WITH(spec.validate(), Catch::Matchers::Contains(complaint));
}

}  // namespace

TEST_CASE("the published number of parameters is within 1 % of what the architecture adds up to") {
  for (const NamedModel& model : named_models()) {
    CAPTURE(model.name);
    CHECK(model.architecture.num_params() == Approx(model.num_params).epsilon(0.01));
    CHECK_NOTHROW(ModelSpec::named(model.name).validate());
  }
}

TEST_CASE("the parameters of well-known checkpoints are counted exactly") {
  const auto count = [](std::string_view name) {
    for (const NamedModel& model : named_models()) {
      if (model.name == name) return model.architecture.num_params();
    }
    return 0.0;
  };
  CHECK(count("llama-3.1-8b") == 8030261248.0);
  CHECK(count("llama-3.2-1b") == 1235814400.0);    // tied
  CHECK(count("qwen2.5-7b") == 7615616512.0);      // bias on q, k, v
  CHECK(count("qwen3-0.6b") == 596049920.0);       // norms on q, k
  CHECK(count("mixtral-8x7b") == 46702792704.0);   // experts
  CHECK(count("qwen3-30b-a3b") == 30532122624.0);  // experts, and heads wider than the hidden size
  CHECK(count("smollm2-135m-instruct") == 134515008.0);
}

TEST_CASE("a named model has the widths of its heads, not its hidden size") {
  const ModelSpec llama = ModelSpec::named("llama-3.1-8b");
  CHECK(llama.num_params == 8.03e9);
  CHECK(llama.active_params() == llama.num_params);
  CHECK(llama.num_layers == 32);
  CHECK(llama.attention_width == 4096);
  CHECK(llama.kv_width == 1024);
  CHECK(llama.max_context == 131072);
  CHECK(ModelSpec::named("qwen3-32b").attention_width == 8192);
}

TEST_CASE("a mixture of experts activates its share of the experts") {
  CHECK(ModelSpec::named("mixtral-8x7b").active_params() == Approx(12.9e9).epsilon(0.01));
  CHECK(ModelSpec::named("qwen3-30b-a3b").active_params() == Approx(3.3e9).epsilon(0.02));
  CHECK(ModelSpec::named("deepseek-v3").active_params() == Approx(37e9).epsilon(0.02));
}

TEST_CASE("latent attention stores its latent and one rotary key a token and layer") {
  const ModelSpec deepseek = ModelSpec::named("deepseek-v3");
  CHECK(deepseek.is_mla());
  CHECK(deepseek.kv_width == 0);
  CHECK(deepseek.kv_bytes_per_token() == (512 + 64) * 61 * 2);
  CHECK(deepseek.attention_width == 128 * (192 + 128) / 2);
  CHECK(deepseek.decode_flops_per_kv_token() == 2.0 * 128 * (2 * 512 + 64) * 61);
  CHECK(ModelSpec::named("llama-3.1-8b").decode_flops_per_kv_token() == 0);
}

TEST_CASE("an unknown name is refused with the names there are") {
  CHECK_THROWS_AS(ModelSpec::named("gpt-5"), InvalidInput);
  CHECK_THROWS_WITH(ModelSpec::named("gpt-5"), Catch::Matchers::Contains("no model is named \"gpt-5\"") &&
                                                   Catch::Matchers::Contains("qwen2.5-72b"));
  CHECK_THROWS_WITH(DeviceSpec::named("h100"), Catch::Matchers::Contains("no device is named \"h100\"") &&
                                                   Catch::Matchers::Contains("h100-sxm-80gb"));
}

TEST_CASE("a model is refused for any field out of its range") {
  check_refused([](ModelSpec& spec) { spec.head_params = -1; }, "head_params is -1");
  check_refused([](ModelSpec& spec) { spec.embedding_params = 8e9; }, "num_params is 8.03e+09; it must be more than");
  check_refused([](ModelSpec& spec) { spec.num_layers = 0; }, "num_layers is 0; it must be at least 1");
  check_refused([](ModelSpec& spec) { spec.attention_width = -1; }, "attention_width is -1");
  check_refused([](ModelSpec& spec) { spec.kv_width = 0; }, "kv_width is 0");
  check_refused([](ModelSpec& spec) { spec.num_params = 1 / 0.0; }, "num_params is inf");
  check_refused([](ModelSpec& spec) { spec.weight_bytes = 3; }, "weight_bytes is 3; it must be 4 (fp32), 2");
  check_refused([](ModelSpec& spec) { spec.kv_bytes = 0; }, "kv_bytes is 0");
  check_refused([](ModelSpec& spec) { spec.max_context = 0; }, "max_context is 0");
  check_refused([](ModelSpec& spec) { spec.experts_per_token = 2; }, "0 without num_experts");
  check_refused([](ModelSpec& spec) { spec.expert_params = 1e9; }, "0 without num_experts");
  check_refused([](ModelSpec& spec) { spec.num_heads = 32; }, "0 without kv_lora_rank");
  check_refused([](ModelSpec& spec) { spec.experts_per_token = 9; }, "between 1 and num_experts", "mixtral-8x7b");
  check_refused([](ModelSpec& spec) { spec.expert_params = 1e12; }, "less than num_params", "mixtral-8x7b");
  check_refused([](ModelSpec& spec) { spec.kv_width = 1; }, "0 with kv_lora_rank", "deepseek-v3");
}

TEST_CASE("a device is refused for any field out of its range") {
  check_refused([](DeviceSpec& spec) { spec.flops_2_byte = 0; }, "flops_2_byte is 0");
  check_refused([](DeviceSpec& spec) { spec.bandwidth = -1; }, "bandwidth is -1");
  check_refused([](DeviceSpec& spec) { spec.memory_bytes = 0; }, "memory_bytes is 0");
  check_refused([](DeviceSpec& spec) { spec.tp = 0; }, "tp is 0; it must be at least 1");
  check_refused([](DeviceSpec& spec) { spec.beta = 1.5; }, "beta is 1.5");
  check_refused([](DeviceSpec& spec) { spec.num_nano_batches = 0; }, "num_nano_batches is 0");
  check_refused([](DeviceSpec& spec) { spec.token_tile = 0; }, "token_tile is 0");
  check_refused([](DeviceSpec& spec) { spec.kv_memory_bytes = 0; }, "kv_memory_bytes is 0");
}

TEST_CASE("measured rates are refused by the name of what is wrong") {
  const auto check_refused_rates = [](const std::function<void(MeasuredRates&)>& spoil, const std::string& complaint) {
    MeasuredRates rates{.element_bytes = 2,
                        .layers = RateCurve({{1, 10}, {4, 20}}),
                        .head = RateCurve({{1, 10}}),
                        .prefill_attention_flops = 10,
                        .decode_attention_bandwidth = 10};
    CHECK_NOTHROW(rates.validate());
    spoil(rates);
    CHECK_THROWS_WITH(rates.validate(), Catch::Matchers::Contains(complaint));
  };
  check_refused_rates([](MeasuredRates& rates) { rates.element_bytes = 3; }, "element_bytes is 3");
  check_refused_rates([](MeasuredRates& rates) { rates.head = {}; }, "head is empty");
  check_refused_rates([](MeasuredRates& rates) { rates.head = RateCurve({{0, 1}}); }, "head rows is 0");
  check_refused_rates([](MeasuredRates& rates) { rates.layers = RateCurve({{1, -1}}); }, "layers FLOP/s is -1");
  check_refused_rates([](MeasuredRates& rates) { rates.layers = RateCurve({{4, 10}, {1, 10}}); },
                      "layers rows is 1; it must be more than those of the point before");
  check_refused_rates([](MeasuredRates& rates) { rates.layers = RateCurve({{1, 10}, {2, 30}}); },
                      "layers FLOP/s is 30; it must be so low that more rows take no less time");
  check_refused_rates([](MeasuredRates& rates) { rates.prefill_attention_flops = 0; }, "prefill_attention_flops is 0");
  check_refused_rates([](MeasuredRates& rates) { rates.decode_attention_bandwidth = 0; },
                      "decode_attention_bandwidth is 0");
  check_refused_rates([](MeasuredRates& rates) { rates.step_s = -1; }, "step_s is -1");
}

TEST_CASE("a model tells its head and its embedding apart") {
  const ModelSpec llama = ModelSpec::named("llama-3.1-8b");
  CHECK(llama.head_params == 128256.0 * 4096);
  CHECK(llama.layer_params() == llama.num_params - 2 * llama.head_params);
  const ModelSpec tied = ModelSpec::named("smollm2-135m-instruct");
  CHECK(tied.embedding_params == 0);
  CHECK(tied.layer_params() == tied.num_params - tied.head_params);
  const ModelSpec experts = ModelSpec::named("mixtral-8x7b");
  CHECK(experts.layer_params() == experts.active_params() - 2 * experts.head_params);
}

TEST_CASE("tensor parallelism scales what is derived, not the data sheet") {
  const DeviceSpec eight = DeviceSpec::named("a100-sxm-80gb", 8);
  CHECK(eight.flops_2_byte == 312e12);
  CHECK(eight.bandwidth == 2039e9);
  CHECK(eight.memory_bytes == 80e9);
  CHECK(eight.total_flops(2) == 8 * 312e12);
  CHECK(eight.total_bandwidth() == 8 * 2039e9);
}

TEST_CASE("narrower elements are never slower, on any named device") {
  for (const NamedDevice& device : named_devices()) {
    CAPTURE(device.name);
    const DeviceSpec spec = DeviceSpec::named(device.name);
    CHECK(spec.total_flops(4) <= spec.total_flops(2));
    CHECK(spec.total_flops(2) <= spec.total_flops(1));
  }
}
