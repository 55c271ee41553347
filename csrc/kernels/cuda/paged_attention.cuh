#pragma once

#include <cstdint>
#include <limits>

#include "kernels/cuda/paged_attention.h"
#include "kernels/cuda/round_ring.cuh"
#include "kernels/cuda/row_attention.cuh"
#include "kernels/cuda/shared_item.h"

// Attention on any shape: prefill chunks and decodes, causal, with or without a window and a cap. A CTA reads the
// positions of an item round by round; its warps hold 16 query rows each, and where an item has fewer rows several
// warps have the same and take the tiles of a round in turns (WarpGrid).
namespace blendserve::cuda {

inline constexpr int kJoinColumns = 32;

// Beside the ring: where the warps that have the same rows put their results together, some columns at a time.
struct AttentionScratch {
  float outputs[kDecodeWarps][kSliceQueries][kJoinColumns + 4];  // padded: stores fall into different banks
  SoftmaxState states[kDecodeWarps][kSliceQueries];
  std::uint64_t barriers[kMaxRoundStages];
};

// What the host works out before a launch.
struct AttentionLaunch {
  FastDivisor block_size;
  FastDivisor group;
  ScoreMap score;
  std::int32_t window;
  int num_stages;
};

inline AttentionLaunch attention_launch(const blendserve_paged_attention_params& params, int num_stages) {
  return {FastDivisor(params.block_size), FastDivisor(params.num_heads / params.num_kv_heads),
          score_map(params.scale * params.k_scale, params.softcap),
          params.window == 0 ? std::numeric_limits<std::int32_t>::max() : params.window, num_stages};
}

struct QueryRow {
  std::int64_t token;
  std::int32_t head;
};

template <typename Tile>
__device__ __forceinline__ QueryRow query_row(const Tile& tile, int row, int group, const FastDivisor& group_divisor) {
  const std::int32_t at = tile.first_row + row;
  const std::int32_t token = group_divisor.quotient(at);
  return {std::int64_t{tile.first_token} + token, tile.kv_head * group + group_divisor.remainder(at, token)};
}

// Writes what the warps computed for one item: outputs, or the partial result. Ends with a barrier.
template <typename T, typename Kv, int kHeadDim>
__device__ void write_rows(const blendserve_paged_attention_params& params, const AttentionLaunch& launch,
                           const AttentionItem& item, const RowAttention<T, Kv, kHeadDim>& attention,
                           AttentionScratch& scratch) {
  const WarpGrid grid(item.num_rows);
  const PartialRowsOf partials = partial_rows(params);
  const int group = params.num_heads / params.num_kv_heads;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    const SoftmaxState state = attention.state(j);
    if (lane % 4 == 0) {
      scratch.states[warp][lane / 4 + j * 8] = state;
    }
  }
#pragma unroll
  for (int first = 0; first < kHeadDim; first += kJoinColumns) {
#pragma unroll
    for (int n = first / 8; n < (first + kJoinColumns) / 8; ++n) {
      attention.for_each_pair(n, [&](int row, int column, float2 pair) {
        *reinterpret_cast<float2*>(&scratch.outputs[warp][row][column - first]) = pair;
      });
    }
    __syncthreads();
    constexpr int kPairs = kJoinColumns / 2;
    for (int at = static_cast<int>(threadIdx.x); at < item.num_rows * kPairs; at += kDecodeWarps * 32) {
      const int row = at / kPairs;
      const int column = at % kPairs * 2;
      const int first_warp = row / kSliceQueries * grid.num_lanes;
      const int in_slice = row % kSliceQueries;
      SoftmaxState total = scratch.states[first_warp][in_slice];
      for (int other = first_warp + 1; other < first_warp + grid.num_lanes; ++other) {
        total = softmax_union(total, scratch.states[other][in_slice]);
      }
      float2 sum = {0.0F, 0.0F};
      for (int other = first_warp; other < first_warp + grid.num_lanes; ++other) {
        const float weight = softmax_weight(scratch.states[other][in_slice], total.max);
        const float2 part = *reinterpret_cast<const float2*>(&scratch.outputs[other][in_slice][column]);
        sum.x += weight * part.x;
        sum.y += weight * part.y;
      }
      const int d = first + column;
      if (d >= params.head_dim) {
        continue;
      }
      if (item.partial == kNoPartialRow) {
        const QueryRow query = query_row(item, row, group, launch.group);
        T* out = static_cast<T*>(params.out) + query.token * params.out_stride + query.head * params.head_dim + d;
        const float inverse = 1.0F / total.sum * params.v_scale;
        *reinterpret_cast<std::uint32_t*>(out) = ptx::pack<T>(sum.x * inverse, sum.y * inverse);
      } else {
        const std::int64_t partial = item.partial + row;
        *reinterpret_cast<float2*>(partials.outputs + partial * params.head_dim + d) = sum;
        if (d == 0) {
          partials.states[partial] = total;
        }
      }
    }
    __syncthreads();
  }
}

template <typename T, typename Kv, int kHeadDim>
__global__ void __launch_bounds__(kDecodeWarps * 32, 1)
    paged_attention_kernel(const __grid_constant__ blendserve_paged_attention_params params,
                           const __grid_constant__ AttentionLaunch launch) {
  extern __shared__ __align__(1024) unsigned char shared[];
  using Ring = RoundRing<Kv, kHeadDim>;
  auto& scratch = *reinterpret_cast<AttentionScratch*>(shared + launch.num_stages * Ring::kBytes);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int group = params.num_heads / params.num_kv_heads;
  const AttentionPlanView plan(params.plan, params.num_ctas);
  Ring ring(shared, scratch.barriers, launch.num_stages, plan, params.block_table,
            {static_cast<const unsigned char*>(params.kv),
             nullptr,
             {params.num_blocks, params.num_kv_heads, params.block_size, params.head_dim * int{sizeof(Kv)}},
             launch.block_size});

  const AttentionItem* next = plan.items() + plan.cta_indptr()[blockIdx.x];
  for (; next != plan.items() + ring.end(); ++next) {
    const AttentionItem& item = *next;  // read again where it is needed: registers are short
    const WarpGrid grid(item.num_rows);
    const int first_row = grid.slice(warp) * kSliceQueries;
    RowAttention<T, Kv, kHeadDim> attention;
    attention.start(
        params.head_dim,
        [&](int in_slice) -> const T* {
          if (first_row + in_slice >= item.num_rows) {
            return nullptr;
          }
          const QueryRow query = query_row(item, first_row + in_slice, group, launch.group);
          return static_cast<const T*>(params.q) + query.token * params.q_stride + query.head * params.head_dim;
        },
        [&](int in_slice) { return item.num_before + launch.group.quotient(item.first_row + first_row + in_slice); });
    const Visibility visibility{launch.window, item.kv_end};
    for (std::int32_t round = item.kv_begin; round < visibility.end; round += Ring::kTokens) {
      const std::uint32_t stage = ring.wait();
      for (int tile = grid.lane(warp); tile < Ring::kTiles; tile += grid.num_lanes) {
        attention.add_tile(stage + static_cast<std::uint32_t>(tile * Ring::Tile::kBytes),
                           round + tile * Ring::Tile::kTokens, visibility, launch.score);
      }
      ring.release();
    }
    write_rows(params, launch, item, attention, scratch);
  }
}

// One warp per row of a merge.
template <typename T>
__global__ void __launch_bounds__(kDecodeWarps * 32)
    merge_rows_kernel(const __grid_constant__ blendserve_paged_attention_params params,
                      const __grid_constant__ AttentionLaunch launch) {
  const AttentionPlanView plan(params.plan, params.num_ctas);
  const PartialRowsOf partials = partial_rows(params);
  const int group = params.num_heads / params.num_kv_heads;
  const int first = static_cast<int>(blockIdx.x) * kDecodeWarps + static_cast<int>(threadIdx.x) / 32;
  const int num_rows = plan.header().num_merges * kTileRows;
  for (int at = first; at < num_rows; at += static_cast<int>(gridDim.x) * kDecodeWarps) {
    const AttentionMerge merge = plan.merges()[at / kTileRows];
    const int row = at % kTileRows;
    if (row >= merge.num_rows) {
      continue;
    }
    const std::int64_t partial = std::int64_t{merge.partial} + row;
    const PartialRows parts{partials.states + partial, partials.outputs + partial * params.head_dim, merge.num_parts,
                            merge.num_rows, params.head_dim};
    const SoftmaxState merged = parts.merged_state();
    const QueryRow query = query_row(merge, row, group, launch.group);
    T* out = static_cast<T*>(params.out) + query.token * params.out_stride + query.head * params.head_dim;
    for (int d = static_cast<int>(threadIdx.x) % 32; d < params.head_dim; d += 32) {
      out[d] = static_cast<T>(parts.merged_output(merged, d) * params.v_scale);
    }
  }
}

}  // namespace blendserve::cuda
