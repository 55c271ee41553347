#include "perf/cost_model.h"

#include <catch2/catch.hpp>
#include <limits>

#include "base/error.h"

using namespace blendserve;

namespace {

CostModel llama_on_a100() { return {ModelSpec::named("llama-3.1-8b"), DeviceSpec::named("a100-sxm-80gb")}; }

}  // namespace

TEST_CASE("Llama-3.1-8B on an A100 has the paper's constants") {
  const CostModel cost = llama_on_a100();
  CHECK(cost.t_tok() == Approx(51.5e-6).epsilon(0.001));
  CHECK(cost.t_attn() == Approx(4.0 * 4096 * 32 / 312e12));
  CHECK(cost.t_kv() == Approx(64.3e-9).epsilon(0.001));
  CHECK(cost.weight_read_s() == Approx(7.9e-3).epsilon(0.005));
  CHECK(cost.weight_read_s(2048) == cost.weight_read_s());
  CHECK(cost.kv_bytes_per_token() == 131072);
  CHECK(cost.kv_capacity_tokens() == 411520);
}

TEST_CASE("the paper's example requests have its densities") {
  const CostModel cost = llama_on_a100();
  CHECK(density(cost.compute_s(512, 256), cost.memory_s(512, 256)) == Approx(3.73).epsilon(0.02));
  CHECK(density(cost.compute_s(256, 16384), cost.memory_s(256, 16384)) == Approx(0.096).epsilon(0.01));
}

// The paper times the operators of one layer: GEMM over a batch of n tokens, whose weights are read first, and decode
// attention of n sequences of 1024 tokens, at the 85 % of the data sheet's bandwidth that its estimates imply.
TEST_CASE("the paper's operator times, estimated and measured, are within 6 % of a layer's") {
  struct Row {
    double batch, gemm_estimated, gemm_measured, attention_estimated, attention_measured;  // ms
  };
  const CostModel cost = llama_on_a100();
  DeviceSpec achieved = DeviceSpec::named("a100-sxm-80gb");
  achieved.bandwidth *= 0.85;
  const CostModel attention_cost(ModelSpec::named("llama-3.1-8b"), achieved);
  for (const Row& row : {Row{512, 1.038, 1.087, 1.239, 1.317}, Row{768, 1.494, 1.537, 1.859, 1.913},
                         Row{1024, 1.916, 2.005, 2.478, 2.515}}) {
    const double gemm_ms = 1e3 * (cost.decode_compute_s(row.batch) + cost.weight_read_s(row.batch)) / 32;
    const double attention_ms = 1e3 * attention_cost.t_kv() * row.batch * 1024 / 32;
    CHECK(gemm_ms == Approx(row.gemm_estimated).epsilon(0.06));
    CHECK(gemm_ms == Approx(row.gemm_measured).epsilon(0.06));
    CHECK(attention_ms == Approx(row.attention_estimated).epsilon(0.001));
    CHECK(attention_ms == Approx(row.attention_measured).epsilon(0.06));
  }
}

TEST_CASE("the segments of a prompt add up to the whole") {
  const CostModel cost = llama_on_a100();
  const double pieces =
      cost.segment_compute_s(0, 100) + cost.segment_compute_s(100, 1000) + cost.segment_compute_s(1000, 5000);
  CHECK(pieces == Approx(cost.segment_compute_s(0, 5000)));
  CHECK(cost.segment_compute_s(0, 5000) == Approx(5000 * cost.t_tok() + 25e6 * cost.t_attn()));
  CHECK(cost.compute_s(5000, 20) == Approx(cost.segment_compute_s(0, 5000) + cost.decode_compute_s(20)));
  CHECK(cost.segment_compute_s(7, 7) == 0);
}

TEST_CASE("the spread of an unknown output length adds memory time") {
  const CostModel cost = llama_on_a100();
  CHECK(cost.memory_s(100, 50) == Approx(cost.t_kv() * (100 * 50 + 50 * 50 / 2.0)));
  CHECK(cost.memory_s(100, 50, 2 * 50 * 50) == Approx(cost.t_kv() * (100 * 50 + 50 * 50)));
}

TEST_CASE("density without memory time is infinite, never NaN") {
  CHECK(density(1, 0) == std::numeric_limits<double>::infinity());
  CHECK(density(0, 0) == std::numeric_limits<double>::infinity());
  CHECK(density(3, 2) == 1.5);
}

TEST_CASE("tensor parallelism divides every time and shares one copy of the weights") {
  const CostModel one = llama_on_a100();
  const CostModel eight(ModelSpec::named("llama-3.1-8b"), DeviceSpec::named("a100-sxm-80gb", 8));
  CHECK(eight.t_tok() == Approx(one.t_tok() / 8));
  CHECK(eight.t_attn() == Approx(one.t_attn() / 8));
  CHECK(eight.t_kv() == Approx(one.t_kv() / 8));
  CHECK(eight.weight_read_s() == Approx(one.weight_read_s() / 8));
  const double bytes = 8 * 70e9 - 2 * 8.03e9;
  CHECK(eight.kv_capacity_tokens() == 16 * static_cast<std::int64_t>(bytes / 131072 / 16));
}

TEST_CASE("element sizes change bytes, and the rate of the arithmetic with the weights'") {
  const CostModel two = llama_on_a100();
  ModelSpec model = ModelSpec::named("llama-3.1-8b");
  model.kv_bytes = 1;
  const CostModel narrow_kv(model, two.device());
  CHECK(narrow_kv.t_kv() == Approx(two.t_kv() / 2));
  CHECK(narrow_kv.t_tok() == two.t_tok());
  CHECK(narrow_kv.weight_read_s() == two.weight_read_s());

  model.weight_bytes = 4;
  model.kv_bytes = 4;
  const CostModel four(model, two.device());
  CHECK(four.t_tok() == Approx(two.t_tok() * 2));
  CHECK(four.t_attn() == Approx(two.t_attn() * 2));
  CHECK(four.t_kv() == Approx(two.t_kv() * 2));
  CHECK(four.weight_read_s() == Approx(two.weight_read_s() * 2));
}

TEST_CASE("a batch of a mixture of experts reads the experts it is expected to touch") {
  const CostModel cost(ModelSpec::named("mixtral-8x7b"), DeviceSpec::named("h200-sxm-141gb"));
  const ModelSpec& model = cost.model();
  const double shared = 2 * (model.num_params - model.expert_params) / 4800e9;
  const double experts = 2 * model.expert_params / 4800e9;
  CHECK(cost.weight_read_s(1) == Approx(shared + experts * 2 / 8));
  CHECK(cost.weight_read_s(2) == Approx(shared + experts * (1 - 0.75 * 0.75)));
  CHECK(cost.weight_read_s(1e4) == Approx(shared + experts));
  CHECK(cost.t_tok() == Approx(2 * model.active_params() / 989e12));
}

TEST_CASE("latent attention is charged for its arithmetic where that takes longer than its bytes") {
  const ModelSpec model = ModelSpec::named("deepseek-v3");
  const double bytes_s = (512 + 64) * 61 * 2.0;
  const double flops_s = 2.0 * 128 * (2 * 512 + 64) * 61;
  DeviceSpec device = DeviceSpec::named("h200-sxm-141gb", 16);
  CHECK(CostModel(model, device).t_kv() == Approx(flops_s / (16 * 989e12)));
  device.bandwidth = 1000e9;
  CHECK(CostModel(model, device).t_kv() == Approx(bytes_s / (16 * 1000e9)));
}

TEST_CASE("given KV memory replaces the rule for the capacity") {
  DeviceSpec device = DeviceSpec::named("a100-sxm-80gb");
  device.kv_memory_bytes = 100 * 131072;
  CHECK(CostModel(ModelSpec::named("llama-3.1-8b"), device).kv_capacity_tokens() == 96);
}

TEST_CASE("a model that does not fit is refused when its capacity is asked for, with the remedy") {
  const CostModel cost(ModelSpec::named("llama-3.1-70b"), DeviceSpec::named("a100-sxm-80gb"));
  CHECK(cost.t_tok() > 0);
  CHECK_THROWS_AS(cost.kv_capacity_tokens(), InvalidInput);
  CHECK_THROWS_WITH(cost.kv_capacity_tokens(),
                    Catch::Matchers::Contains("llama-3.1-70b needs 141.2 GB") && Catch::Matchers::Contains("raise tp"));
}

TEST_CASE("a cost model is not made from a spec that is out of range") {
  ModelSpec model = ModelSpec::named("llama-3.1-8b");
  model.num_layers = 0;
  CHECK_THROWS_AS(CostModel(model, DeviceSpec::named("cpu")), InvalidInput);
}
