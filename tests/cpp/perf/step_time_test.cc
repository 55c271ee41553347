#include "perf/step_time.h"

#include <algorithm>
#include <catch2/catch.hpp>

using namespace blendserve;

namespace {

// Round figures: a token takes 1 s, a square token 0.01 s, a KV token 0.5 s, the weights 100 s; tiles of 4 tokens.
CostModel round_model(std::int64_t num_nano_batches = 1, double beta = 0.5) {
  const ModelSpec model{.name = "round",
                        .num_layers = 1,
                        .attention_width = 0.25,
                        .kv_width = 25,
                        .num_params = 10000,
                        .weight_bytes = 2,
                        .kv_bytes = 2};
  const DeviceSpec device{.name = "round",
                          .flops_4_byte = 20000,
                          .flops_2_byte = 20000,
                          .flops_1_byte = 20000,
                          .bandwidth = 200,
                          .memory_bytes = 1e12,
                          .beta = beta,
                          .num_nano_batches = num_nano_batches,
                          .token_tile = 4};
  return {model, device};
}

BatchDesc tokens(std::int64_t num_decodes, std::int64_t len) {
  BatchDesc batch;
  for (std::int64_t i = 0; i < num_decodes; ++i) batch.add_decode(len);
  return batch;
}

}  // namespace

TEST_CASE("a batch is the sums of its chunks and decodes") {
  BatchDesc batch;
  batch.add_chunk(0, 100);
  batch.add_chunk(50, 10);
  batch.add_decode(7);
  batch.add_decode(9);
  CHECK(batch == BatchDesc{.num_prefill_tokens = 110,
                           .prefill_squares = 100 * 100 + 60 * 60 - 50 * 50,
                           .num_decodes = 2,
                           .decode_kv_tokens = 16,
                           .num_logit_rows = 2});
  CHECK(batch.num_tokens() == 112);
}

TEST_CASE("a sequential step is its compute, then its reads") {
  BatchDesc batch;
  batch.add_chunk(100, 198);
  batch.add_decode(10);
  const CostModel cost = round_model();
  const double squares = 298 * 298 - 100 * 100;
  const StepTime time = step_time(cost, batch, Execution::kSequential);
  CHECK(time.compute_s == Approx(200 * cost.t_tok() + squares * cost.t_attn()));
  CHECK(time.memory_s == Approx(10 * cost.t_kv()));
  CHECK(time.total_s == Approx(time.compute_s + time.memory_s));
}

TEST_CASE("a small step takes as long as reading the weights") {
  const StepTime time = step_time(round_model(), tokens(3, 10), Execution::kSequential);
  CHECK(time.compute_s == Approx(100));
  CHECK(time.total_s == Approx(100 + 3 * 10 * 0.5));
}

TEST_CASE("tokens are charged in whole tiles") {
  const CostModel cost = round_model();
  const auto compute_s = [&](std::int64_t n) {
    return step_time(cost, tokens(n, 1), Execution::kSequential).compute_s;
  };
  CHECK(compute_s(201) == Approx(204));
  CHECK(compute_s(204) == Approx(204));
  CHECK(compute_s(205) == Approx(208));
}

TEST_CASE("an overlapped step is the longer time and beta of the shorter") {
  const CostModel cost = round_model();
  const StepTime compute_bound = step_time(cost, tokens(200, 1), Execution::kOverlapped);
  CHECK(compute_bound.total_s == Approx(200 + 0.5 * 100));
  const StepTime memory_bound = step_time(cost, tokens(400, 4), Execution::kOverlapped);
  CHECK(memory_bound.total_s == Approx(800 + 0.5 * 400));
}

TEST_CASE("weights and KV share one bus") {
  const StepTime time = step_time(round_model(1, 0.0), tokens(4, 100), Execution::kOverlapped);
  CHECK(time.total_s == Approx(100 + 200));
}

TEST_CASE("every nano-batch reads the weights, and they share the tiles evenly") {
  const CostModel cost = round_model(3);
  const StepTime small = step_time(cost, tokens(4, 1), Execution::kOverlapped);
  CHECK(small.compute_s == Approx(3 * 100));
  CHECK(small.total_s == Approx(3 * 100 + 2));

  // 112 tiles: 38, 37 and 37, each longer than the weights, so that splitting costs nothing.
  const StepTime large = step_time(cost, tokens(448, 1), Execution::kOverlapped);
  CHECK(large.compute_s == Approx(448));
  // 76 tiles: 26, 25 and 25 of 4 s; only the first is longer than the weights.
  const StepTime mixed = step_time(cost, tokens(304, 1), Execution::kOverlapped);
  CHECK(mixed.compute_s == Approx(104 + 100 + 100));
  CHECK(step_time(cost, tokens(304, 1), Execution::kSequential).compute_s == Approx(304));
}

TEST_CASE("nano-batches of a mixture of experts each touch the experts of their own tokens") {
  DeviceSpec device = DeviceSpec::named("h200-sxm-141gb");
  device.num_nano_batches = 2;
  const CostModel cost(ModelSpec::named("mixtral-8x7b"), device);
  const StepTime time = step_time(cost, tokens(4, 1), Execution::kOverlapped);
  CHECK(time.compute_s == Approx(2 * cost.weight_read_s(2)));
}

namespace {

// Layers of 900 weights and a head of 100. A row alone takes 2 s of the layers, 4 rows 4 s; beyond that 1 s each. The
// head takes 0.2 s a row; a KV token 0.5 s, a square token 0.005 s; besides, every step takes 3 s.
CostModel measured_model(std::int64_t num_nano_batches = 1, double beta = 1) {
  const ModelSpec model{.name = "round",
                        .num_layers = 1,
                        .attention_width = 0.25,
                        .kv_width = 25,
                        .num_params = 1000,
                        .head_params = 100,
                        .weight_bytes = 2,
                        .kv_bytes = 2};
  const DeviceSpec device{.name = "round",
                          .flops_4_byte = 1800,
                          .flops_2_byte = 1800,
                          .flops_1_byte = 1800,
                          .bandwidth = 900,
                          .memory_bytes = 1e12,
                          .beta = beta,
                          .num_nano_batches = num_nano_batches,
                          .token_tile = 1,
                          .measured = MeasuredRates{.element_bytes = 2,
                                                    .layers = RateCurve({{1, 900}, {4, 1800}}),
                                                    .head = RateCurve({{1, 1000}}),
                                                    .prefill_attention_flops = 100,
                                                    .decode_attention_bandwidth = 200,
                                                    .step_s = 3}};
  return {model, device};
}

}  // namespace

TEST_CASE("a measured device takes what its curves say for the rows of the step") {
  const CostModel cost = measured_model();
  const auto layers_s = [&](std::int64_t num_tokens) {
    BatchDesc batch;
    batch.add_chunk(0, num_tokens);
    const double squares = static_cast<double>(num_tokens * num_tokens);
    return step_time(cost, batch, Execution::kSequential).total_s - 3 - 0.005 * squares;
  };
  CHECK(layers_s(1) == Approx(2));
  CHECK(layers_s(2) == Approx(2 + 2.0 / 3));
  CHECK(layers_s(4) == Approx(4));
  CHECK(layers_s(100) == Approx(100));
}

TEST_CASE("a measured device charges the head for the rows that pass it") {
  const CostModel cost = measured_model();
  BatchDesc batch;
  batch.add_chunk(0, 8);
  batch.add_decode(10);
  const double without_ends = step_time(cost, batch, Execution::kSequential).compute_s;
  CHECK(without_ends == Approx(9 + 0.005 * 64 + 0.2));
  batch.add_logit_rows(2);
  CHECK(step_time(cost, batch, Execution::kSequential).compute_s == Approx(without_ends + 2 * 0.2));
}

TEST_CASE("with a beta of 1 an overlapped step is a sequential one") {
  const CostModel cost = measured_model();
  BatchDesc batch = tokens(6, 7);
  batch.add_chunk(3, 20);
  CHECK(step_time(cost, batch, Execution::kOverlapped).total_s ==
        Approx(step_time(cost, batch, Execution::kSequential).total_s));
}

TEST_CASE("every nano-batch of a measured device has the rate of its own rows") {
  const CostModel cost = measured_model(2, 0.5);
  BatchDesc batch;
  batch.add_chunk(0, 4);
  CHECK(step_time(cost, batch, Execution::kOverlapped).compute_s == Approx(2 * (2 + 2.0 / 3) + 0.005 * 16));
}

TEST_CASE("tensor parallelism divides what was measured, but for the host's part") {
  CostModel one = measured_model();
  DeviceSpec device = one.device();
  device.tp = 2;
  const CostModel two(one.model(), device);
  BatchDesc batch = tokens(5, 3);
  batch.add_chunk(2, 8);
  const StepTime whole = step_time(one, batch, Execution::kSequential);
  const StepTime half = step_time(two, batch, Execution::kSequential);
  CHECK(half.compute_s == Approx(whole.compute_s / 2));
  CHECK(half.total_s - 3 == Approx((whole.total_s - 3) / 2));
}

TEST_CASE("an empty step takes no time") {
  CHECK(step_time(round_model(), {}, Execution::kSequential).total_s == 0);
  CHECK(step_time(round_model(2), {}, Execution::kOverlapped).total_s == 0);
}
