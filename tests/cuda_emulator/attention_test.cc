#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>
#include <vector>

#include "base/kv_layout.h"
#include "base/rng.h"
#include "cached_numbers.h"
#include "kernels/cuda/paged_attention.cuh"
#include "kernels/planned_attention.h"

// paged_attention's own source against attention by the definition in double.
using namespace blendserve;
using namespace blendserve::cuda;

namespace {

// A paged cache in which only what belongs to a sequence is a number, in shuffled blocks, and queries that lie apart.
template <typename T, typename Kv>
struct AttentionProblem {
  AttentionProblem(const PlannedAttention& planned, float cap)
      : plan(planned),
        shape(planned.shape()),
        softcap(cap),
        num_heads(shape.num_kv_heads * shape.group),
        stride(num_heads * shape.head_dim + 8),
        scale(1 / std::sqrt(static_cast<float>(shape.head_dim))),
        block_table(static_cast<std::size_t>(planned.num_blocks())),
        layout{planned.num_blocks(), shape.num_kv_heads, shape.block_size, shape.head_dim},
        kv(static_cast<std::size_t>(layout.layer_size()), Kv(NAN)) {
    std::iota(block_table.begin(), block_table.end(), 0);
    std::sort(block_table.begin(), block_table.end(), [](std::int32_t a, std::int32_t b) {
      return random_bits(5, static_cast<std::uint64_t>(a)) < random_bits(5, static_cast<std::uint64_t>(b));
    });
    for (std::size_t s = 0; s < shape.chunks.size(); ++s) {
      for (std::int32_t position = 0; position < shape.chunks[s].kv_len(); ++position) {
        for (std::int32_t kv_head = 0; kv_head < shape.num_kv_heads; ++kv_head) {
          for (std::int32_t d = 0; d < shape.head_dim; ++d) {
            for (const std::size_t at : {key_at(s, position, kv_head, d), value_at(s, position, kv_head, d)}) {
              kv[at] = Kv(random_float(1, at));
            }
          }
        }
      }
    }
    for (std::size_t i = 0; i < static_cast<std::size_t>(plan.num_tokens()) * static_cast<std::size_t>(stride); ++i) {
      q.push_back(T(4 * random_float(2, i)));
    }
  }

  std::size_t key_at(std::size_t s, std::int32_t position, std::int32_t kv_head, std::int32_t d) const {
    return static_cast<std::size_t>(layout.k_offset(block_of(s, position), kv_head) + in_tile(position, d));
  }
  std::size_t value_at(std::size_t s, std::int32_t position, std::int32_t kv_head, std::int32_t d) const {
    return static_cast<std::size_t>(layout.v_offset(block_of(s, position), kv_head) + in_tile(position, d));
  }

  // The largest relative error of a head's output by its norm; NaN when an element is missing.
  double worst_error(const std::vector<T>& out) const {
    double worst = 0;
    for (std::size_t s = 0; s < shape.chunks.size(); ++s) {
      for (std::int32_t token = 0; token < shape.chunks[s].qo_len; ++token) {
        for (std::int32_t head = 0; head < num_heads; ++head) {
          const std::vector<double> expected = attend(s, token, head);
          const std::size_t at = query_at(s, token, head);
          double error = 0;
          double norm = 0;
          for (std::size_t d = 0; d < expected.size(); ++d) {
            error += std::pow(number(out[at + d]) - expected[d], 2);
            norm += expected[d] * expected[d];
          }
          const double relative = std::sqrt(error / norm);
          if (std::isnan(relative)) {
            return relative;
          }
          worst = std::max(worst, relative);
        }
      }
    }
    return worst;
  }

  const PlannedAttention& plan;
  const AttentionCase& shape;
  float softcap;
  std::int32_t num_heads;
  std::int32_t stride;
  float scale;
  std::vector<std::int32_t> block_table;
  KvLayout layout;
  std::vector<Kv> kv;
  std::vector<T> q{};

 private:
  std::int32_t block_of(std::size_t s, std::int32_t position) const {
    return block_table[static_cast<std::size_t>(plan.first_block(s) + position / shape.block_size)];
  }
  std::int64_t in_tile(std::int32_t position, std::int32_t d) const {
    return std::int64_t{position % shape.block_size} * shape.head_dim + d;
  }
  std::size_t query_at(std::size_t s, std::int32_t token, std::int32_t head) const {
    return static_cast<std::size_t>((plan.first_token(s) + token) * stride + head * shape.head_dim);
  }

  std::vector<double> attend(std::size_t s, std::int32_t token, std::int32_t head) const {
    const std::int32_t kv_head = head / shape.group;
    const std::int32_t last = shape.chunks[s].num_before + token;
    const std::int32_t first = shape.window == 0 ? 0 : std::max(0, last - shape.window + 1);
    std::vector<double> sums(static_cast<std::size_t>(shape.head_dim));
    double total = 0;
    for (std::int32_t position = first; position <= last; ++position) {
      double score = 0;
      for (std::int32_t d = 0; d < shape.head_dim; ++d) {
        score += number(q[query_at(s, token, head) + static_cast<std::size_t>(d)]) *
                 number(kv[key_at(s, position, kv_head, d)]);
      }
      score *= static_cast<double>(scale * kKeyScale<Kv>);
      const double cap = static_cast<double>(softcap);
      const double weight = std::exp(softcap == 0.0F ? score : cap * std::tanh(score / cap));
      total += weight;
      for (std::int32_t d = 0; d < shape.head_dim; ++d) {
        sums[static_cast<std::size_t>(d)] += weight * number(kv[value_at(s, position, kv_head, d)]);
      }
    }
    for (double& sum : sums) {
      sum *= static_cast<double>(kValueScale<Kv>) / total;
    }
    return sums;
  }
};

template <typename T, typename Kv, int kHeadDim>
double error_of_kernels(const PlannedAttention& plan, float softcap, int num_stages) {
  const AttentionProblem<T, Kv> problem(plan, softcap);
  const AttentionCase& shape = plan.shape();
  std::vector<T> out(problem.q.size(), T(NAN));
  const std::int64_t workspace_bytes = attention_workspace_bytes(shape.num_ctas, shape.head_dim);
  std::vector<float> workspace(static_cast<std::size_t>(workspace_bytes) / sizeof(float), NAN);
  const blendserve_paged_attention_params params{.q = problem.q.data(),
                                                 .out = out.data(),
                                                 .kv = problem.kv.data(),
                                                 .block_table = problem.block_table.data(),
                                                 .plan = plan.data(),
                                                 .workspace = workspace.data(),
                                                 .workspace_bytes = workspace_bytes,
                                                 .q_stride = problem.stride,
                                                 .out_stride = problem.stride,
                                                 .num_blocks = problem.layout.num_blocks,
                                                 .num_heads = problem.num_heads,
                                                 .num_kv_heads = shape.num_kv_heads,
                                                 .head_dim = shape.head_dim,
                                                 .block_size = shape.block_size,
                                                 .num_ctas = shape.num_ctas,
                                                 .dtype = 0,
                                                 .kv_dtype = 0,
                                                 .window = shape.window,
                                                 .scale = problem.scale,
                                                 .softcap = softcap,
                                                 .k_scale = kKeyScale<Kv>,
                                                 .v_scale = kValueScale<Kv>};
  const AttentionLaunch launch = attention_launch(params, num_stages);
  const auto run = [&](auto kernel) { cuda_emulator::run_grid(shape.num_ctas, kDecodeWarps * 32, kernel); };
  run([&] { paged_attention_kernel<T, Kv, kHeadDim>(params, launch); });
  run([&] { merge_rows_kernel<T>(params, launch); });
  return problem.worst_error(out);
}

template <typename T, typename Kv>
double error_of(const PlannedAttention& plan, float softcap, int num_stages) {
  return plan.shape().head_dim <= 64    ? error_of_kernels<T, Kv, 64>(plan, softcap, num_stages)
         : plan.shape().head_dim <= 128 ? error_of_kernels<T, Kv, 128>(plan, softcap, num_stages)
                                        : error_of_kernels<T, Kv, 256>(plan, softcap, num_stages);
}

template <typename T, typename Kv = T>
void expect_attention(const AttentionCase& shape, float softcap, double tolerance) {
  const PlannedAttention plan(shape);
  for (const bool late : {false, true}) {
    cuda_emulator::copies_land_late = late;
    INFO("head_dim " << shape.head_dim << ", group " << shape.group << ", block_size " << shape.block_size
                     << ", window " << shape.window << ", softcap " << softcap << ", " << shape.num_ctas
                     << " CTAs, copies land " << (late ? "late" : "at once"));
    CHECK(error_of<T, Kv>(plan, softcap, late ? 2 : 4) < tolerance);
  }
}

// Random steps with few enough query rows to be emulated.
template <typename Accept, typename Check>
void for_each_random_step(int num_steps, Accept accept, Check check) {
  for (std::uint64_t seed = 0; num_steps > 0; ++seed) {
    AttentionCase shape = random_attention_case(seed, 90);
    shape.num_ctas = 1 + shape.num_ctas % 3;
    std::int32_t num_rows = 0;
    for (const SequenceChunk& chunk : shape.chunks) {
      num_rows += chunk.qo_len * shape.num_kv_heads * shape.group;
    }
    if (num_rows <= 300 && accept(shape)) {
      INFO("seed " << seed);
      check(shape, seed % 2 == 0 ? 0.0F : 3.0F);
      --num_steps;
    }
  }
}

}  // namespace

TEST_CASE("paged attention of random steps, any head size, group, page size and window") {
  for_each_random_step(
      40, [](const AttentionCase&) { return true; },
      [](const AttentionCase& shape, float softcap) { expect_attention<__nv_bfloat16>(shape, softcap, 1e-2); });
}

TEST_CASE("paged attention of a decode cut into parts, float16, head size 256 with a cap") {
  expect_attention<__half>({.chunks = {{150, 1}, {70, 1}}, .group = 2, .head_dim = 256, .num_ctas = 4}, 2.0F, 2e-3);
}

TEST_CASE("paged attention of a chunk behind a prefix in more than one tile, head size 80") {
  expect_attention<__nv_bfloat16>({.chunks = {{37, 50}}, .group = 3, .head_dim = 80, .block_size = 7, .num_ctas = 2},
                                  0.0F, 1e-2);
}

TEST_CASE("paged attention where a window hides a whole part from some rows") {
  expect_attention<__half>({.chunks = {{200, 120}}, .head_dim = 64, .window = 9, .num_ctas = 3}, 0.0F, 2e-3);
}

TEST_CASE("paged attention of more query heads to a KV head than a tile has rows") {
  expect_attention<__nv_bfloat16>({.chunks = {{20, 2}}, .group = 71, .head_dim = 24, .block_size = 16, .num_ctas = 2},
                                  0.0F, 1e-2);
}

TEST_CASE("paged attention over e4m3 of random steps, bfloat16 and float16 queries") {
  for_each_random_step(
      12, [](const AttentionCase& shape) { return shape.head_dim % 16 == 0; },
      [](const AttentionCase& shape, float softcap) {
        expect_attention<__nv_bfloat16, __nv_fp8_e4m3>(shape, softcap, 1e-2);
        expect_attention<__half, __nv_fp8_e4m3>(shape, 0.0F, 2e-3);
      });
}
