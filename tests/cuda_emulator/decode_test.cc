#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "cached_numbers.h"
#include "kernels/cuda/merge_partials.cuh"
#include "kernels/cuda/shared_decode.cuh"
#include "kernels/planned_decode.h"

// The decode kernels' own source on random trees of prefixes, against attention by the definition in double.
using namespace blendserve;
using namespace blendserve::cuda;

namespace {

// A paged cache in which only what belongs to a row is a number, and queries that lie apart.
template <typename T, typename Kv>
struct PagedProblem {
  PagedProblem(const PlannedDecode& plan, std::int32_t dim)
      : rows(plan.rows()), head_dim(dim), num_heads(rows.num_kv_heads * rows.group), q_stride(num_heads * dim + 8) {
    std::vector<std::int32_t> ids = plan.block_table();
    std::sort(ids.begin(), ids.end());
    ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
    for (const std::int32_t block : plan.block_table()) {
      block_table.push_back(static_cast<std::int32_t>(std::lower_bound(ids.begin(), ids.end(), block) - ids.begin()));
    }
    layout = {static_cast<std::int64_t>(ids.size()), rows.num_kv_heads, rows.block_size, dim};
    kv.assign(static_cast<std::size_t>(layout.layer_size()), Kv(NAN));
    const std::int32_t* blocks = block_table.data();
    for (std::size_t row = 0; row < rows.tables.size(); blocks += rows.tables[row++].size()) {
      for (std::int32_t token = 0; token < rows.kv_lens[row]; ++token) {
        for (std::int32_t kv_head = 0; kv_head < rows.num_kv_heads; ++kv_head) {
          for (std::int32_t d = 0; d < head_dim; ++d) {
            for (const std::size_t at : {key_at(blocks, token, kv_head, d), value_at(blocks, token, kv_head, d)}) {
              kv[at] = Kv(random_float(1, at));
            }
          }
        }
      }
    }
    for (std::size_t i = 0; i < rows.tables.size() * static_cast<std::size_t>(q_stride); ++i) {
      q.push_back(T(3 * random_float(2, i)));
    }
  }

  std::size_t key_at(const std::int32_t* blocks, std::int32_t token, std::int32_t kv_head, std::int32_t d) const {
    const std::int64_t in_tile = std::int64_t{token % rows.block_size} * head_dim + d;
    return static_cast<std::size_t>(layout.k_offset(blocks[token / rows.block_size], kv_head) + in_tile);
  }
  std::size_t value_at(const std::int32_t* blocks, std::int32_t token, std::int32_t kv_head, std::int32_t d) const {
    const std::int64_t in_tile = std::int64_t{token % rows.block_size} * head_dim + d;
    return static_cast<std::size_t>(layout.v_offset(blocks[token / rows.block_size], kv_head) + in_tile);
  }

  // The largest relative error of a head's output by its norm; NaN when an element is missing.
  double worst_error(const std::vector<T>& out, float scale) const {
    double worst = 0;
    const std::int32_t* blocks = block_table.data();
    for (std::size_t row = 0; row < rows.tables.size(); blocks += rows.tables[row++].size()) {
      for (std::int32_t head = 0; head < num_heads; ++head) {
        const std::size_t at = row * static_cast<std::size_t>(q_stride) + static_cast<std::size_t>(head * head_dim);
        const std::vector<double> expected = attend(&q[at], blocks, rows.kv_lens[row], head / rows.group, scale);
        double error = 0;
        double norm = 0;
        for (std::size_t d = 0; d < expected.size(); ++d) {
          const double difference = static_cast<double>(static_cast<float>(out[at + d])) - expected[d];
          error += difference * difference;
          norm += expected[d] * expected[d];
        }
        const double relative = std::sqrt(error / norm);
        if (std::isnan(relative)) {
          return relative;
        }
        worst = std::max(worst, relative);
      }
    }
    return worst;
  }

  std::vector<double> attend(const T* query, const std::int32_t* blocks, std::int32_t kv_len, std::int32_t kv_head,
                             float scale) const {
    std::vector<double> sums(static_cast<std::size_t>(head_dim));
    double total = 0;
    for (std::int32_t token = 0; token < kv_len; ++token) {
      double score = 0;
      for (std::int32_t d = 0; d < head_dim; ++d) {
        score += number(query[d]) * number(kv[key_at(blocks, token, kv_head, d)]);
      }
      const double weight = std::exp(score * static_cast<double>(scale * kKeyScale<Kv>));
      total += weight;
      for (std::int32_t d = 0; d < head_dim; ++d) {
        sums[static_cast<std::size_t>(d)] += weight * number(kv[value_at(blocks, token, kv_head, d)]);
      }
    }
    for (double& sum : sums) {
      sum *= static_cast<double>(kValueScale<Kv>) / total;
    }
    return sums;
  }

  const DecodeRows& rows;
  std::int32_t head_dim;
  std::int32_t num_heads;
  std::int32_t q_stride;
  std::vector<std::int32_t> block_table;
  KvLayout layout;
  std::vector<Kv> kv;
  std::vector<T> q;
};

template <typename T, typename Kv, int kHeadDim, template <int> typename TileCopy>
double error_of_kernels(const PlannedDecode& plan) {
  const PagedProblem<T, Kv> problem(plan, kHeadDim);
  const DecodeRows& rows = plan.rows();
  std::vector<T> out(problem.q.size(), T(NAN));
  const std::int64_t workspace_bytes = rows.max_partials * decode_partial_bytes(rows.group, kHeadDim);
  std::vector<float> workspace(static_cast<std::size_t>(workspace_bytes) / sizeof(float), NAN);
  const blendserve_paged_decode_params params{.q = problem.q.data(),
                                              .out = out.data(),
                                              .kv = problem.kv.data(),
                                              .block_table = problem.block_table.data(),
                                              .plan = plan.bytes().data(),
                                              .workspace = workspace.data(),
                                              .workspace_bytes = workspace_bytes,
                                              .q_stride = problem.q_stride,
                                              .out_stride = problem.q_stride,
                                              .num_blocks = problem.layout.num_blocks,
                                              .max_partials = rows.max_partials,
                                              .num_heads = problem.num_heads,
                                              .num_kv_heads = rows.num_kv_heads,
                                              .head_dim = kHeadDim,
                                              .block_size = rows.block_size,
                                              .num_ctas = rows.num_ctas,
                                              .dtype = 0,
                                              .kv_dtype = 0,
                                              .kv_copy = 0,
                                              .read_shared = 1,
                                              .scale = 1 / std::sqrt(static_cast<float>(kHeadDim)),
                                              .k_scale = kKeyScale<Kv>,
                                              .v_scale = kValueScale<Kv>};
  constexpr int kElementBytes = sizeof(Kv);
  CUtensorMap map{};
  const ptx::EmulatedTensorMap tensor{reinterpret_cast<const unsigned char*>(problem.kv.data()),
                                      problem.layout.v_offset(0, 0) * kElementBytes, kHeadDim * kElementBytes};
  std::memcpy(static_cast<void*>(&map), &tensor, sizeof tensor);
  const DecodeLaunch launch{FastDivisor(rows.block_size), params.scale * params.k_scale * 1.4426950408889634F};
  const auto run = [&](auto kernel) { cuda_emulator::run_grid(rows.num_ctas, kDecodeWarps * 32, kernel); };
  run([&] { shared_decode_kernel<T, Kv, kHeadDim, TileCopy>(params, map, launch); });
  if (rows.group <= 8) {
    run([&] { paged_decode_kernel<T, Kv, kHeadDim, 1, TileCopy>(params, map, launch); });
  } else {
    run([&] { paged_decode_kernel<T, Kv, kHeadDim, 2, TileCopy>(params, map, launch); });
  }
  run([&] { merge_partials_kernel<T>(params); });
  return problem.worst_error(out, params.scale);
}

// Random rows, small enough to be emulated; sharing pays on little data since the plan reckons with huge heads.
template <typename Check>
void for_each_plan(int num_plans, bool whole_tiles, Check check) {
  for (std::uint64_t seed = 0; num_plans > 0; ++seed) {
    DecodeRows rows = random_tree_rows(seed, 900);
    rows.num_ctas = 1 + rows.num_ctas % 3;
    rows.max_partials = 6000;
    rows.head_dim = 1 << 16;
    if (rows.num_rows() * rows.num_kv_heads * rows.group > 150 ||
        (whole_tiles && rows.block_size % kDecodeTileTokens != 0)) {
      continue;
    }
    const PlannedDecode plan(rows);
    if (!plan.shared_items().empty()) {
      check(plan, seed);
      --num_plans;
    }
  }
}

template <typename T, typename Kv, int kHeadDim, template <int> typename TileCopy>
void expect_attention(int num_plans, double tolerance) {
  for_each_plan(num_plans, TileCopy<kHeadDim>::kNeedsSm90, [&](const PlannedDecode& plan, std::uint64_t seed) {
    for (const bool late : {false, true}) {
      cuda_emulator::copies_land_late = late;
      INFO("seed " << seed << ", copies land " << (late ? "late" : "at once"));
      CHECK(error_of_kernels<T, Kv, kHeadDim, TileCopy>(plan) < tolerance);
    }
  });
}

}  // namespace

TEST_CASE("decode kernels give attention, bfloat16, head size 128, cp.async") {
  expect_attention<__nv_bfloat16, __nv_bfloat16, 128, AsyncTileCopy>(2, 1e-2);
}
TEST_CASE("decode kernels give attention, bfloat16, head size 128, bulk copies") {
  expect_attention<__nv_bfloat16, __nv_bfloat16, 128, BulkTileCopy>(2, 1e-2);
}
TEST_CASE("decode kernels give attention, float16, head size 64, cp.async") {
  expect_attention<__half, __half, 64, AsyncTileCopy>(2, 2e-3);
}
TEST_CASE("decode kernels give attention, float16, head size 64, bulk copies") {
  expect_attention<__half, __half, 64, BulkTileCopy>(2, 2e-3);
}
TEST_CASE("decode kernels give attention over e4m3, bfloat16 queries, head size 128, bulk copies") {
  expect_attention<__nv_bfloat16, __nv_fp8_e4m3, 128, BulkTileCopy>(2, 1e-2);
}
TEST_CASE("decode kernels give attention over e4m3, float16 queries, head size 128, cp.async") {
  expect_attention<__half, __nv_fp8_e4m3, 128, AsyncTileCopy>(2, 2e-3);
}
TEST_CASE("decode kernels give attention over e4m3, float16 queries, head size 64, bulk copies") {
  expect_attention<__half, __nv_fp8_e4m3, 64, BulkTileCopy>(2, 2e-3);
}
TEST_CASE("decode kernels give attention over e4m3, bfloat16 queries, head size 64, cp.async") {
  expect_attention<__nv_bfloat16, __nv_fp8_e4m3, 64, AsyncTileCopy>(2, 1e-2);
}
