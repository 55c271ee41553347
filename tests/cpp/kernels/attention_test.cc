#include "kernels/cpu/attention.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "kernels/attention_case.h"
#include "kernels/cpu/isa.h"
#include "kernels/isas.h"

using namespace blendserve;
using namespace blendserve::cpu;

namespace {

// Row `token`, head `head` of a sequence by the definition, in double.
std::vector<double> reference_row(const AttentionShape& shape, const Sequence& sequence, std::int32_t token,
                                  std::int32_t head) {
  const std::int32_t kv_head = head / shape.group;
  const auto at = [&](const std::vector<float>& x, std::int32_t num_heads, std::int32_t t, std::int32_t h,
                      std::int32_t i) { return x[static_cast<std::size_t>((t * num_heads + h) * shape.head_dim + i)]; };
  const std::int32_t begin = shape.window > 0 ? std::max(0, token - shape.window + 1) : 0;
  std::vector<double> weights(static_cast<std::size_t>(begin), -std::numeric_limits<double>::infinity());
  for (std::int32_t p = begin; p <= token; ++p) {
    double score = 0;
    for (std::int32_t i = 0; i < shape.head_dim; ++i) {
      score += double{at(sequence.q, shape.num_heads(), token, head, i)} *
               double{stored(at(sequence.k, shape.num_kv_heads, p, kv_head, i), shape.kv_dtype)};
    }
    score *= double{shape.scale()};
    weights.push_back(shape.softcap > 0 ? double{shape.softcap} * std::tanh(score / double{shape.softcap}) : score);
  }
  const double max = *std::max_element(weights.begin(), weights.end());
  double sum = 0;
  for (double& weight : weights) {
    weight = std::exp(weight - max);
    sum += weight;
  }
  std::vector<double> row(static_cast<std::size_t>(shape.head_dim));
  for (std::int32_t i = 0; i < shape.head_dim; ++i) {
    for (std::int32_t p = begin; p <= token; ++p) {
      row[static_cast<std::size_t>(i)] +=
          weights[static_cast<std::size_t>(p)] / sum *
          double{stored(at(sequence.v, shape.num_kv_heads, p, kv_head, i), shape.kv_dtype)};
    }
  }
  return row;
}

// The greatest difference of some rows of `out`, the rows [done, len) of the sequence, to the reference.
double worst_error(const AttentionShape& shape, const Sequence& sequence, std::int32_t done,
                   const std::vector<float>& out) {
  double worst = 0;
  for (std::int32_t token = done; token < sequence.len; token += 1 + (sequence.len - done) / 5) {
    for (std::int32_t head = 0; head < shape.num_heads(); ++head) {
      const std::vector<double> expected = reference_row(shape, sequence, token, head);
      for (std::int32_t i = 0; i < shape.head_dim; ++i) {
        const auto at = static_cast<std::size_t>(((token - done) * shape.num_heads() + head) * shape.head_dim + i);
        const double error = std::abs(double{out[at]} - expected[static_cast<std::size_t>(i)]);
        worst = std::isnan(error) ? std::numeric_limits<double>::infinity() : std::max(worst, error);
      }
    }
  }
  return worst;
}

// Rows [begin, end) of an output with `row_len` floats a row.
std::vector<float> rows(const std::vector<float>& out, std::int32_t begin, std::int32_t end, std::int32_t row_len) {
  return {out.begin() + begin * row_len, out.begin() + end * row_len};
}

}  // namespace

TEST_CASE("paged attention is causal softmax attention, for every head dim, group, block size and KV type") {
  const std::string isa = GENERATE(from_range(isas()));
  const KvDtype kv_dtype = GENERATE(KvDtype::kFloat32, KvDtype::kBFloat16);
  set_active_isa(isa);
  ThreadPool pool(2);
  std::uint32_t seed = 0;
  const std::int32_t block_sizes[] = {1, 8, 16, 32};
  for (const std::int32_t head_dim : {16, 32, 64, 80, 96, 128, 192, 256, 5, 8, 12, 24, 40, 56, 66, 120, 250}) {
    ++seed;
    const AttentionShape shape{.num_kv_heads = 1 + static_cast<std::int32_t>(seed % 3),
                               .group = 1 + static_cast<std::int32_t>((3 * seed) % 8),
                               .head_dim = head_dim,
                               .block_size = block_sizes[seed % 4],
                               .kv_dtype = kv_dtype};
    const std::vector<Sequence> sequences{{shape, 70, seed}, {shape, 300, seed + 100}, {shape, 1, seed + 200}};
    PagedCase paged(shape, sequences, seed);
    paged.step({{0, 0, 69}, {1, 0, 261}}, pool);
    const std::vector<float> out = paged.step({{0, 69, 1}, {2, 0, 1}, {1, 261, 39}}, pool);
    const std::int32_t row_len = shape.num_heads() * head_dim;
    INFO(isa << ", head_dim " << head_dim << ", group " << shape.group << ", block_size " << shape.block_size);
    CHECK(worst_error(shape, sequences[0], 69, rows(out, 0, 1, row_len)) < 3e-6);
    CHECK(worst_error(shape, sequences[2], 0, rows(out, 1, 2, row_len)) < 3e-6);
    CHECK(worst_error(shape, sequences[1], 261, rows(out, 2, 41, row_len)) < 3e-6);
  }
  set_active_isa("auto");
}

TEST_CASE("windows and soft caps are those of the definition, of any length and strength") {
  const std::string isa = GENERATE(from_range(isas()));
  set_active_isa(isa);
  ThreadPool pool(2);
  for (const std::int32_t window : {0, 1, 2, 7, 16, 100, 255, 256, 257, 300, 600, 5000}) {
    for (const float softcap : {0.0F, 0.05F, 1.0F, 50.0F}) {
      const AttentionShape shape{.num_kv_heads = 2, .group = 3, .window = window, .softcap = softcap};
      const std::vector<Sequence> sequences{{shape, 600, static_cast<std::uint32_t>(window)}, {shape, 5, 1}};
      PagedCase paged(shape, sequences, 1);
      const std::int32_t row_len = shape.num_heads() * shape.head_dim;
      INFO(isa << ", window " << window << ", softcap " << softcap);
      CHECK(worst_error(shape, sequences[0], 0, whole(shape, sequences[0], pool)) < 3e-6);
      paged.step({{0, 0, 250}}, pool);
      const std::vector<float> out = paged.step({{1, 0, 5}, {0, 250, 350}}, pool);
      CHECK(worst_error(shape, sequences[1], 0, rows(out, 0, 5, row_len)) < 3e-6);
      CHECK(worst_error(shape, sequences[0], 250, rows(out, 5, 355, row_len)) < 3e-6);
      CHECK(worst_error(shape, sequences[0], 599, paged.step({{0, 599, 1}}, pool)) < 3e-6);
    }
  }
  set_active_isa("auto");
}

TEST_CASE("an output row is the same bit for bit in any chunk, batch, block size and number of threads") {
  const std::string isa = GENERATE(from_range(isas()));
  const KvDtype kv_dtype = GENERATE(KvDtype::kFloat32, KvDtype::kBFloat16);
  const std::int32_t group = GENERATE(1, 3, 8);
  const std::int32_t window = GENERATE(0, 3, 100, 300);
  set_active_isa(isa);
  AttentionShape shape{.num_kv_heads = 2,
                       .group = group,
                       .head_dim = 16,
                       .block_size = 16,
                       .kv_dtype = kv_dtype,
                       .window = window,
                       .softcap = window == 3 || window == 300 ? 2.0F : 0.0F};
  const std::int32_t row_len = shape.num_heads() * shape.head_dim;
  const std::vector<Sequence> sequences{{shape, 530, 1}, {shape, 90, 2}};
  ThreadPool one(1);
  ThreadPool three(3);
  const std::vector<float> expected[] = {whole(shape, sequences[0], one), whole(shape, sequences[1], one)};
  CHECK(whole(shape, sequences[0], three) == expected[0]);
  for (const std::int32_t block_size : {1, 32}) {
    shape.block_size = block_size;
    PagedCase paged(shape, sequences, 7);
    std::mt19937 engine(static_cast<std::uint32_t>(block_size));
    std::int32_t done[] = {0, 0};
    while (done[0] < 530 || done[1] < 90) {
      std::vector<Chunk> chunks;
      for (const std::int32_t s : {1, 0}) {
        const std::int32_t widest = engine() % 2 == 0 ? 1 : 150;
        const auto qo_len = std::min(sequences[static_cast<std::size_t>(s)].len - done[s],
                                     static_cast<std::int32_t>(engine() % static_cast<std::uint32_t>(widest)) + 1);
        chunks.push_back({s, done[s], qo_len});
      }
      const std::vector<float> out = paged.step(chunks, engine() % 2 == 0 ? one : three);
      std::int32_t row = 0;
      for (const Chunk& chunk : chunks) {
        REQUIRE(rows(out, row, row + chunk.qo_len, row_len) ==
                rows(expected[chunk.sequence], chunk.done, chunk.done + chunk.qo_len, row_len));
        row += chunk.qo_len;
        done[chunk.sequence] += chunk.qo_len;
      }
    }
  }
  set_active_isa("auto");
}

TEST_CASE("a decode has the bits it has alone among many, where its KV heads share a tile") {
  const std::string isa = GENERATE(from_range(isas()));
  const KvDtype kv_dtype = GENERATE(KvDtype::kFloat32, KvDtype::kBFloat16);
  const std::int32_t window = GENERATE(0, 40);
  set_active_isa(isa);
  ThreadPool one(1);
  ThreadPool three(3);
  ThreadPool nine(9);
  const std::int32_t block_sizes[] = {1, 5, 16, 32};
  std::uint32_t seed = 0;
  for (const std::int32_t head_dim : {16, 24, 80}) {
    for (const std::int32_t group : {1, 2, 5, 13}) {
      ++seed;
      const AttentionShape shape{.num_kv_heads = 3 + static_cast<std::int32_t>(seed % 2),
                                 .group = group,
                                 .head_dim = head_dim,
                                 .block_size = block_sizes[seed % 4],
                                 .kv_dtype = kv_dtype,
                                 .window = window,
                                 .softcap = seed % 2 == 0 ? 2.0F : 0.0F};
      std::vector<Sequence> sequences;
      std::vector<Chunk> prompts;
      std::vector<Chunk> decodes;
      for (std::int32_t s = 0; s < 12; ++s) {
        const std::int32_t len = 2 + (s * 47) % 290;
        sequences.emplace_back(shape, len, seed + static_cast<std::uint32_t>(s));
        prompts.push_back({s, 0, len - 1});
        decodes.push_back({s, len - 1, 1});
      }
      PagedCase paged(shape, sequences, seed);
      paged.step(prompts, three);
      const std::vector<float> together = paged.step(decodes, one);
      INFO(isa << ", head_dim " << head_dim << ", group " << group);
      REQUIRE(paged.step(decodes, three) == together);
      REQUIRE(paged.step(decodes, nine) == together);
      for (std::int32_t s = 0; s < 12; ++s) {
        const std::vector<float> alone = paged.step({decodes[static_cast<std::size_t>(s)]}, three);
        REQUIRE(rows(together, s, s + 1, shape.num_heads() * head_dim) == alone);
      }
      CHECK(worst_error(shape, sequences[7], sequences[7].len - 1, paged.step({decodes[7]}, one)) < 3e-6);
    }
  }
  set_active_isa("auto");
}

TEST_CASE("K and V that a row may not see never reach it, not even infinite or NaN") {
  const std::string isa = GENERATE(from_range(isas()));
  set_active_isa(isa);
  const AttentionShape shape{.num_kv_heads = 1, .group = 2, .head_dim = 16, .block_size = 8};
  const std::int32_t row_len = shape.num_heads() * shape.head_dim;
  ThreadPool pool(1);
  const Sequence clean(shape, 290, 5);
  Sequence poisoned = clean;
  for (const std::int32_t position : {7, 70, 270}) {
    const float poison =
        position == 70 ? std::numeric_limits<float>::infinity() : std::numeric_limits<float>::quiet_NaN();
    std::fill_n(poisoned.k.begin() + position * shape.head_dim, shape.head_dim, poison);
    std::fill_n(poisoned.v.begin() + position * shape.head_dim, shape.head_dim, poison);
    const std::vector<float> out = whole(shape, poisoned, pool);
    CHECK(rows(out, 0, position, row_len) == rows(whole(shape, clean, pool), 0, position, row_len));
    CHECK(std::isnan(out[static_cast<std::size_t>(position * row_len)]));
    CHECK(std::isnan(out.back()));
    poisoned = clean;
  }
  set_active_isa("auto");
}

TEST_CASE("K and V left of a window never reach a row") {
  const std::string isa = GENERATE(from_range(isas()));
  const std::int32_t window = GENERATE(1, 5, 30, 270);
  set_active_isa(isa);
  const AttentionShape shape{.num_kv_heads = 1, .group = 4, .head_dim = 16, .block_size = 8, .window = window};
  const std::int32_t row_len = shape.num_heads() * shape.head_dim;
  ThreadPool pool(1);
  const Sequence clean(shape, 560, 5);
  for (const std::int32_t position : {7, 255, 256}) {
    Sequence poisoned = clean;
    std::fill_n(poisoned.k.begin() + position * shape.head_dim, shape.head_dim, std::nanf(""));
    std::fill_n(poisoned.v.begin() + position * shape.head_dim, shape.head_dim, std::nanf(""));
    const std::vector<float> out = whole(shape, poisoned, pool);
    const std::vector<float> expected = whole(shape, clean, pool);
    CHECK(rows(out, 0, position, row_len) == rows(expected, 0, position, row_len));
    CHECK(rows(out, position + window, 560, row_len) == rows(expected, position + window, 560, row_len));
    CHECK(std::isnan(out[static_cast<std::size_t>(position * row_len)]));
    CHECK(std::isnan(out[static_cast<std::size_t>((position + window) * row_len - 1)]));
  }
  set_active_isa("auto");
}

TEST_CASE("scores far apart neither overflow nor underflow") {
  const std::string isa = GENERATE(from_range(isas()));
  set_active_isa(isa);
  const AttentionShape shape{.num_kv_heads = 1, .group = 1, .head_dim = 8, .block_size = 16};
  ThreadPool pool(1);
  Sequence sequence(shape, 520, 11);
  for (float& x : sequence.q) {
    x *= 300.0F;
  }
  CHECK(worst_error(shape, sequence, 0, whole(shape, sequence, pool)) <
        2e-3);  // scores of hundreds carry errors of 1e-4
  set_active_isa("auto");
}

TEST_CASE("a step without tokens and a sequence without queries are allowed") {
  const AttentionShape shape{.num_kv_heads = 2, .group = 2, .head_dim = 16, .block_size = 8};
  const std::vector<Sequence> sequences{{shape, 9, 1}, {shape, 20, 2}};
  ThreadPool pool(2);
  PagedCase paged(shape, sequences, 3);
  CHECK(paged.step({}, pool).empty());
  CHECK(paged.step({{0, 0, 0}}, pool).empty());
  paged.step({{0, 0, 9}}, pool);
  CHECK(paged.step({{0, 9, 0}, {1, 0, 20}}, pool) == whole(shape, sequences[1], pool));
}

TEST_CASE("index arrays that do not fit together are refused before anything is written") {
  const AttentionShape shape{.num_kv_heads = 2, .group = 2, .head_dim = 16, .block_size = 8};
  const std::vector<Sequence> sequences{{shape, 20, 1}};
  ThreadPool pool(1);
  PagedCase paged(shape, sequences, 3);
  paged.step({{0, 0, 20}}, pool);
  std::vector<float> out(static_cast<std::size_t>(20 * shape.num_heads() * shape.head_dim), 7.0F);
  PagedAttentionParams params = paged.attention_params(out.data());

  const auto message = [&] {
    try {
      paged_attention(params, pool);
    } catch (const InvalidInput& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  SECTION("q has another number of rows") {
    params.num_tokens = 19;
    CHECK(message() == "qo_indptr[1] is 20; it must be the number of rows of q (19)");
  }
  SECTION("the sequence is shorter than its queries") {
    const std::int32_t kv_lens[] = {19};
    params.kv_lens = kv_lens;
    CHECK(message() == "kv_lens[0] is 19; the sequence has 20 query tokens alone");
  }
  SECTION("the blocks do not hold the sequence") {
    const std::int32_t kv_lens[] = {25};
    params.kv_lens = kv_lens;
    CHECK(message() == "kv_lens[0] is 25; its blocks hold 24 positions");
  }
  SECTION("a block lies outside the cache") {
    const BlockId blocks[] = {0, 6, 1};
    params.block_table = blocks;
    CHECK(message() == "block_table[1] is 6; the cache has blocks 0 to 5");
  }
  SECTION("qo_indptr falls") {
    const std::int32_t qo_indptr[] = {0, -1};
    params.qo_indptr = qo_indptr;
    CHECK(message() == "qo_indptr[1] is -1; it must not be less than the one before (0)");
  }
  SECTION("block_indptr does not start at 0") {
    const std::int32_t block_indptr[] = {1, 4};
    params.block_indptr = block_indptr;
    CHECK(message() == "block_indptr[0] is 1; it must be 0");
  }
  SECTION("the window is negative") {
    params.window = -1;
    CHECK(message() == "window is -1 and softcap 0.000000; both must be positive and finite, or 0 for none");
  }
  SECTION("the soft cap is no number") {
    params.softcap = std::nanf("");
    CHECK(message() == "window is 0 and softcap nan; both must be positive and finite, or 0 for none");
  }
  SECTION("heads do not divide") {
    params.num_heads = 3;
    CHECK(message() == "there are 3 query heads and 2 KV heads; the first must be a multiple of the second");
  }
  CHECK(out == std::vector<float>(out.size(), 7.0F));
}
