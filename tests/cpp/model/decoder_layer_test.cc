#include "model/decoder_layer.h"

#include <catch2/catch.hpp>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/rng.h"
#include "model/lm_head.h"

namespace blendserve {
namespace {

constexpr std::int32_t kBlockSize = 4;
constexpr std::int32_t kLen = 11;  // of every sequence

std::vector<float> random_values(std::uint64_t seed, std::int64_t n) {
  std::vector<float> values(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(random_uniform(seed, i) - 0.5);
  return values;
}

Linear linear(std::uint64_t seed, std::int64_t num_outputs, std::int64_t num_inputs) {
  const auto weights = random_values(seed, num_outputs * num_inputs);
  return {std::make_shared<cpu::PackedMatrix>(cpu::PackedMatrix::pack(
              weights.data(), num_outputs, num_inputs, num_inputs, cpu::WeightDtype::kFloat32, default_thread_pool())),
          random_values(seed + 1, num_outputs)};
}

LayerShape shape() {
  return {.hidden_size = 24,
          .intermediate_size = 40,
          .num_heads = 4,
          .num_kv_heads = 2,
          .head_dim = 8,
          .rms_norm_eps = 1e-5F,
          .activation = Activation::kGeluTanh,
          .attention_scale = 0.3F,
          .attention_softcap = 20.0F,
          .window = 6};
}

LayerWeights weights() {
  const LayerShape s = shape();
  return {.attention_norm = random_values(1, s.hidden_size),
          .qkv = linear(2, s.qkv_size(), s.hidden_size),
          .q_norm = random_values(4, s.head_dim),
          .k_norm = random_values(5, s.head_dim),
          .attention_output = linear(6, s.hidden_size, s.q_size()),
          .post_attention_norm = random_values(8, s.hidden_size),
          .mlp_norm = random_values(9, s.hidden_size),
          .gate_up = linear(10, 2 * s.intermediate_size, s.hidden_size),
          .down = linear(12, s.hidden_size, s.intermediate_size),
          .post_mlp_norm = random_values(14, s.hidden_size)};
}

std::shared_ptr<RotaryTable> rotary() { return std::make_shared<RotaryTable>(std::vector{1.0F, 0.3F, 0.1F, 0.01F}); }

// Sequences of kLen tokens in one paged cache, run in steps that a test chooses.
class Sequences {
 public:
  explicit Sequences(std::int32_t num_seqs)
      : num_seqs_(num_seqs), layer_(shape(), weights(), rotary()), hidden_(random_values(20, size())) {
    kv_.assign(static_cast<std::size_t>(layout().layer_size()), std::numeric_limits<float>::quiet_NaN());
  }

  // Tokens [begins[s], ends[s]) of every sequence s in one step.
  void run(const std::vector<std::int32_t>& begins, const std::vector<std::int32_t>& ends, int num_threads) {
    std::vector<std::int32_t> positions;
    std::vector<std::int64_t> slots;
    std::vector<std::int32_t> qo_indptr{0};
    std::vector<std::int32_t> block_indptr{0};
    std::vector<BlockId> table;
    std::vector<float> hidden;
    for (std::int32_t seq = 0; seq < num_seqs_; ++seq) {
      const auto s = static_cast<std::size_t>(seq);
      for (std::int32_t position = begins[s]; position < ends[s]; ++position) {
        positions.push_back(position);
        slots.push_back(block(seq, position / kBlockSize) * kBlockSize + position % kBlockSize);
        hidden.insert(hidden.end(), row(seq, position), row(seq, position) + shape().hidden_size);
      }
      qo_indptr.push_back(static_cast<std::int32_t>(positions.size()));
      for (std::int32_t i = 0; i < kBlocks; ++i) table.push_back(block(seq, i));
      block_indptr.push_back(static_cast<std::int32_t>(table.size()));
    }
    ThreadPool pool(num_threads);
    layer_.forward(hidden.data(),
                   {.positions = positions.data(),
                    .slot_mapping = slots.data(),
                    .qo_indptr = qo_indptr.data(),
                    .kv_lens = ends.data(),
                    .block_indptr = block_indptr.data(),
                    .block_table = table.data(),
                    .num_tokens = static_cast<std::int32_t>(positions.size()),
                    .num_seqs = num_seqs_},
                   {.data = kv_.data(), .layout = layout()}, buffers_, pool);
    const float* from = hidden.data();
    for (std::int32_t seq = 0; seq < num_seqs_; ++seq) {
      const auto s = static_cast<std::size_t>(seq);
      for (std::int32_t position = begins[s]; position < ends[s]; ++position, from += shape().hidden_size) {
        std::copy_n(from, shape().hidden_size, row(seq, position));
      }
    }
  }

  std::vector<float> states(std::int32_t seq) {
    return {row(seq, 0), row(seq, 0) + std::ptrdiff_t{kLen} * shape().hidden_size};
  }

 private:
  static constexpr std::int32_t kBlocks = (kLen + kBlockSize - 1) / kBlockSize;

  std::int64_t size() const { return std::int64_t{num_seqs_} * kLen * shape().hidden_size; }
  KvLayout layout() const {
    return {.num_blocks = num_seqs_ * kBlocks,
            .num_kv_heads = shape().num_kv_heads,
            .block_size = kBlockSize,
            .head_dim = shape().head_dim};
  }
  BlockId block(std::int32_t seq, std::int32_t index) const { return (num_seqs_ - 1 - seq) * kBlocks + index; }
  float* row(std::int32_t seq, std::int32_t position) {
    return hidden_.data() + (std::int64_t{seq} * kLen + position) * shape().hidden_size;
  }

  std::int32_t num_seqs_;
  DecoderLayer layer_;
  std::vector<float> hidden_;
  std::vector<float> kv_;
  LayerBuffers buffers_;
};

}  // namespace

TEST_CASE("a token's state has the same bits in any batch, in any chunks and with any number of threads") {
  Sequences alone(1);
  alone.run({0}, {kLen}, 1);
  for (const int num_threads : {1, 3}) {
    Sequences chunked(1);
    for (const auto& [begin, end] : {std::pair{0, 3}, {3, 4}, {4, 9}, {9, 10}, {10, kLen}}) {
      chunked.run({begin}, {end}, num_threads);
    }
    CHECK(chunked.states(0) == alone.states(0));

    Sequences together(3);
    together.run({0, 0, 0}, {2, kLen, 1}, num_threads);
    together.run({2, kLen, 1}, {kLen, kLen, kLen}, num_threads);
    CHECK(together.states(0) == alone.states(0));
  }
}

TEST_CASE("a weight that does not fit the layer is named") {
  LayerShape bad = shape();
  bad.window = -1;
  CHECK_THROWS_WITH(DecoderLayer(bad, weights(), rotary()), Catch::Contains("window is -1"));
  LayerWeights wrong = weights();
  wrong.k_norm.push_back(1);
  CHECK_THROWS_WITH(DecoderLayer(shape(), wrong, rotary()), Catch::Contains("k_norm has 9 elements; it must have 8"));
  wrong = weights();
  wrong.down = linear(1, 24, 41);
  CHECK_THROWS_WITH(DecoderLayer(shape(), wrong, rotary()),
                    Catch::Contains("down has the shape [24, 41]; it must have [24, 40]"));
  wrong = weights();
  wrong.qkv.bias.pop_back();
  CHECK_THROWS_WITH(DecoderLayer(shape(), wrong, rotary()), Catch::Contains("qkv has a bias of 63 elements"));
}

TEST_CASE("the most likely token is that of the logits, with a cap that makes many equal too") {
  constexpr std::int64_t kVocab = 100;
  const auto hidden = random_values(30, 5 * 24);
  const std::vector<std::int32_t> rows{4, 0, 2, 2};
  for (const float softcap : {0.0F, 1e-6F, 5.0F}) {
    const LmHead head(random_values(31, 24), linear(32, kVocab, 24), 1e-5F, softcap);
    std::vector<float> logits(rows.size() * kVocab);
    std::vector<std::int32_t> best(rows.size());
    head.logits(hidden.data(), rows, logits.data(), default_thread_pool());
    head.most_likely(hidden.data(), rows, best.data(), default_thread_pool());
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const auto begin = logits.cbegin() + static_cast<std::ptrdiff_t>(i * kVocab);
      CHECK(best[i] == std::max_element(begin, begin + kVocab) - begin);
    }
  }
}

TEST_CASE("a tied embedding is a row of the head's matrix") {
  const auto weights = random_values(40, 100 * 24);
  const auto matrix = std::make_shared<cpu::PackedMatrix>(
      cpu::PackedMatrix::pack(weights.data(), 100, 24, 24, cpu::WeightDtype::kFloat32, default_thread_pool()));
  const LmHead head(random_values(41, 24), {matrix, {}}, 1e-5F, 0.0F);
  std::vector<float> rows(2 * 24);
  head.embed(std::vector<std::int32_t>{99, 0}, rows.data());
  CHECK(std::equal(rows.begin(), rows.begin() + 24, weights.end() - 24));
  CHECK(std::equal(rows.begin() + 24, rows.end(), weights.begin()));
  CHECK_THROWS_WITH(head.embed(std::vector<std::int32_t>{100}, rows.data()),
                    Catch::Contains("token id 100 is not in a vocabulary of 100"));
}

}  // namespace blendserve
