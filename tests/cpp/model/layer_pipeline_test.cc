#include "model/layer_pipeline.h"

#include <catch2/catch.hpp>
#include <memory>
#include <numeric>
#include <vector>

#include "base/rng.h"
#include "model/overlap.h"

namespace blendserve {
namespace {

constexpr std::int32_t kBlockSize = 16;
constexpr std::int32_t kNumLayers = 3;

std::vector<float> random_values(std::uint64_t seed, std::int64_t n) {
  std::vector<float> values(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(random_uniform(seed, i) - 0.5);
  return values;
}

Linear linear(std::uint64_t seed, std::int64_t num_outputs, std::int64_t num_inputs) {
  const auto weights = random_values(seed, num_outputs * num_inputs);
  return {std::make_shared<cpu::PackedMatrix>(cpu::PackedMatrix::pack(
              weights.data(), num_outputs, num_inputs, num_inputs, cpu::WeightDtype::kFloat32, default_thread_pool())),
          {}};
}

DecoderLayer layer(std::uint64_t seed, std::int32_t window, const std::shared_ptr<RotaryTable>& rotary) {
  const LayerShape s{.hidden_size = 48,
                     .intermediate_size = 40,
                     .num_heads = 4,
                     .num_kv_heads = 2,
                     .head_dim = 32,
                     .rms_norm_eps = 1e-5F,
                     .window = window};
  return {s,
          {.attention_norm = random_values(seed, s.hidden_size),
           .qkv = linear(seed + 1, s.qkv_size(), s.hidden_size),
           .q_norm = {},
           .k_norm = {},
           .attention_output = linear(seed + 2, s.hidden_size, s.q_size()),
           .post_attention_norm = {},
           .mlp_norm = random_values(seed + 3, s.hidden_size),
           .gate_up = linear(seed + 4, 2 * s.intermediate_size, s.hidden_size),
           .down = linear(seed + 5, s.hidden_size, s.intermediate_size),
           .post_mlp_norm = {}},
          rotary};
}

// Sequences with qo_lens new tokens at the end of kv_lens, in blocks of their own that lie from the last to the first.
struct Step {
  Step(const std::vector<std::int32_t>& qo_lens, std::vector<std::int32_t> lens) : kv_lens(std::move(lens)) {
    std::int32_t num_blocks = 0;
    for (const std::int32_t len : kv_lens) num_blocks += (len + kBlockSize - 1) / kBlockSize;
    BlockId next = num_blocks;
    for (std::size_t seq = 0; seq < kv_lens.size(); ++seq) {
      for (std::int32_t i = 0; i < kv_lens[seq]; i += kBlockSize) table.push_back(--next);
      for (std::int32_t position = kv_lens[seq] - qo_lens[seq]; position < kv_lens[seq]; ++position) {
        positions.push_back(position);
        const auto block = static_cast<std::size_t>(block_indptr.back() + position / kBlockSize);
        slots.push_back(std::int64_t{table[block]} * kBlockSize + position % kBlockSize);
      }
      qo_indptr.push_back(static_cast<std::int32_t>(positions.size()));
      block_indptr.push_back(static_cast<std::int32_t>(table.size()));
    }
  }

  LayerStep view() const {
    return {.positions = positions.data(),
            .slot_mapping = slots.data(),
            .qo_indptr = qo_indptr.data(),
            .kv_lens = kv_lens.data(),
            .block_indptr = block_indptr.data(),
            .block_table = table.data(),
            .num_tokens = static_cast<std::int32_t>(positions.size()),
            .num_seqs = static_cast<std::int32_t>(kv_lens.size())};
  }

  std::vector<std::int32_t> positions;
  std::vector<std::int64_t> slots;
  std::vector<std::int32_t> qo_indptr{0};
  std::vector<std::int32_t> kv_lens;
  std::vector<std::int32_t> block_indptr{0};
  std::vector<BlockId> table;
};

// Layers with caches of random K and V.
class Model {
 public:
  explicit Model(std::int64_t num_blocks) {
    const auto rotary = std::make_shared<RotaryTable>(random_values(1, 16));
    for (std::int32_t i = 0; i < kNumLayers; ++i) {
      layers_.push_back(layer(static_cast<std::uint64_t>(10 * i + 10), i == 1 ? 100 : 0, rotary));
      const LayerShape& shape = layers_.back().shape();
      layout_ = {.num_blocks = num_blocks,
                 .num_kv_heads = shape.num_kv_heads,
                 .block_size = kBlockSize,
                 .head_dim = shape.head_dim};
      caches_.push_back(random_values(static_cast<std::uint64_t>(i), layout_.layer_size()));
    }
  }

  std::vector<CachedLayer> layers() {
    std::vector<CachedLayer> cached;
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      cached.push_back({&layers_[i], {.data = caches_[i].data(), .layout = layout_}});
    }
    return cached;
  }

  std::vector<float> states(const LayerStep& step) const {
    return random_values(5, std::int64_t{step.num_tokens} * layers_[0].shape().hidden_size);
  }
  const std::vector<std::vector<float>>& caches() const { return caches_; }

 private:
  std::vector<DecoderLayer> layers_;
  std::vector<std::vector<float>> caches_;
  KvLayout layout_;
};

}  // namespace

TEST_CASE("two nano-batches get the bits of one, wherever they are cut and with any number of threads") {
  const Step step({1, 1, 1, 40, 1, 7}, {300, 17, 600, 90, 1, 250});
  const LayerStep view = step.view();
  Model plain(static_cast<std::int64_t>(step.table.size()));
  std::vector<float> expected = plain.states(view);
  PipelineBuffers buffers;
  for (const CachedLayer& each : plain.layers()) {
    each.layer->forward(expected.data(), view, each.kv, buffers.first, default_thread_pool());
  }
  for (const int num_threads : {1, 3}) {
    ThreadPool pool(num_threads);
    for (std::int32_t cut = 1; cut < view.num_seqs; ++cut) {
      INFO(num_threads << " threads, cut before sequence " << cut);
      Model model(static_cast<std::int64_t>(step.table.size()));
      std::vector<float> states = model.states(view);
      run_layers_overlapped(model.layers(), states.data(), view, cut, buffers, pool);
      CHECK(states == expected);
      CHECK(model.caches() == plain.caches());
    }
  }
}

TEST_CASE(
    "a step is cut where products and reads hide most of each other, if that is worth reading the weights again") {
  const LayerCosts costs{.products_per_token = 4000, .kv_position_bytes = 10, .weight_bytes = 20000};
  const std::vector<std::int32_t> ones(60, 1);
  const Step even(ones, std::vector<std::int32_t>(60, 100));
  CHECK(overlap_split(even.view(), costs, kBlockSize) == 30);
  LayerCosts heavy = costs;
  heavy.weight_bytes = 30000;
  CHECK(overlap_split(even.view(), heavy, kBlockSize) == 0);

  const Step few(std::vector<std::int32_t>(40, 1), std::vector<std::int32_t>(40, 1000));
  CHECK(overlap_split(few.view(), costs, kBlockSize) == 0);

  std::vector<std::int32_t> qo_lens(30, 1);
  std::vector<std::int32_t> kv_lens(30, 1000);
  qo_lens.push_back(400);
  kv_lens.push_back(4000);
  CHECK(overlap_split(Step(qo_lens, kv_lens).view(), costs, kBlockSize) == 30);
}

TEST_CASE("a step is not cut between a sequence and one behind it whose blocks it reads") {
  const LayerCosts costs{.products_per_token = 4000, .kv_position_bytes = 10, .weight_bytes = 0};
  Step step(std::vector<std::int32_t>(60, 1), std::vector<std::int32_t>(60, 100));
  CHECK(overlap_split(step.view(), costs, kBlockSize) == 30);
  step.table[0] = step.table.back();
  CHECK(overlap_split(step.view(), costs, kBlockSize) == 0);
}

}  // namespace blendserve
