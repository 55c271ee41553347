#pragma once

#include <cstdint>

#include "kernels/cuda/group_attention.cuh"
#include "kernels/cuda/paged_decode.h"
#include "kernels/cuda/tile_ring.cuh"

// Every warp streams its own tiles (warp w takes tiles w, w + 8, ... of each item) through its own ring of
// shared-memory stages: it waits for a tile, reads it into registers, and at once starts the copy of the
// tile that many stages ahead, across the ends of items. No warp waits for another but to join the results of an item.
namespace blendserve::cuda {

// Shared memory of a CTA: the stages of all warps first (aligned to 1 KB for the swizzle), then this.
template <int kHeadDim, int kQueryTiles>
struct DecodeScratch {
  static constexpr int kRowFloats = kHeadDim + 4;  // padded: the lanes of a store fall into different banks

  float outputs[kDecodeWarps][8][kRowFloats];  // one query tile at a time
  SoftmaxState states[kDecodeWarps][kQueryTiles * 8];
  std::uint64_t barriers[kDecodeWarps * kMaxDecodeStages];  // side by side, of as many stages as there are
};

// One query's result over several neighbouring warps: its state, and four elements of its unnormalised output.
struct JoinedQuad {
  SoftmaxState state;
  float4 sum;
};

// Of query `query` of a warp, which is number `in_tile` of the tile that is in scratch. The first warp has a position.
template <int kHeadDim, int kQueryTiles>
__device__ __forceinline__ JoinedQuad join_warps(const DecodeScratch<kHeadDim, kQueryTiles>& scratch, int first_warp,
                                                 int num_warps, int query, int in_tile, int d) {
  SoftmaxState total = scratch.states[first_warp][query];
#pragma unroll
  for (int warp = first_warp + 1; warp < first_warp + num_warps; ++warp) {
    total = softmax_union(total, scratch.states[warp][query]);
  }
  float4 sum = {0.0F, 0.0F, 0.0F, 0.0F};
#pragma unroll
  for (int warp = first_warp; warp < first_warp + num_warps; ++warp) {
    const float weight = softmax_weight(scratch.states[warp][query], total.max);
    const float4 part = *reinterpret_cast<const float4*>(&scratch.outputs[warp][in_tile][d]);
    sum.x += weight * part.x;
    sum.y += weight * part.y;
    sum.z += weight * part.z;
    sum.w += weight * part.w;
  }
  return {total, sum};
}

// Puts query tile `n` of every warp into scratch, for join_warps(); ends with a barrier.
template <typename T, typename Kv, int kHeadDim, int kQueryTiles>
__device__ __forceinline__ void share_query_tile(const GroupAttention<T, Kv, kHeadDim, kQueryTiles>& attention, int n,
                                                 DecodeScratch<kHeadDim, kQueryTiles>& scratch) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  attention.for_each_output(n, [&](int query, int d, float value) { scratch.outputs[warp][query][d] = value; });
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    const SoftmaxState state = attention.state(n, j);
    if (lane < 4) {
      scratch.states[warp][n * 8 + lane * 2 + j] = state;
    }
  }
  __syncthreads();
}

__device__ __forceinline__ void store_partial(const PartialSlots& slots, std::int64_t query, int head_dim, int d,
                                              const JoinedQuad& joined) {
  *reinterpret_cast<float4*>(slots.outputs + query * head_dim + d) = joined.sum;
  if (d == 0) {
    slots.states[query] = joined.state;
  }
}

// Joins what the warps computed for one item and writes the output, or the partial result. Warp 0 has a tile of every
// item, so its maximum is finite. Ends with a barrier.
template <typename T, typename Kv, int kHeadDim, int kQueryTiles>
__device__ void write_item(const blendserve_paged_decode_params& params, const DecodeItem& item,
                           const GroupAttention<T, Kv, kHeadDim, kQueryTiles>& attention,
                           DecodeScratch<kHeadDim, kQueryTiles>& scratch, int group) {
  const PartialSlots slots = partial_slots(params);
#pragma unroll
  for (int n = 0; n < kQueryTiles; ++n) {
    share_query_tile(attention, n, scratch);
    constexpr int kQuads = kHeadDim / 4;
    const int num_queries = min(8, group - n * 8);
    for (int at = static_cast<int>(threadIdx.x); at < num_queries * kQuads; at += kDecodeWarps * 32) {
      const int query = at / kQuads;
      const int d = at % kQuads * 4;
      const int head = n * 8 + query;
      const auto [total, sum] = join_warps(scratch, 0, kDecodeWarps, head, query, d);
      if (item.partial == kNoPartial) {
        T* out =
            static_cast<T*>(params.out) + item.row * params.out_stride + (item.kv_head * group + head) * kHeadDim + d;
        const float inverse = 1.0F / total.sum * params.v_scale;
        *reinterpret_cast<uint2*>(out) = {ptx::pack<T>(sum.x * inverse, sum.y * inverse),
                                          ptx::pack<T>(sum.z * inverse, sum.w * inverse)};
      } else {
        store_partial(slots, std::int64_t{item.partial} * group + head, kHeadDim, d, {total, sum});
      }
    }
    __syncthreads();
  }
}

// What the host works out before a launch.
struct DecodeLaunch {
  FastDivisor block_size;
  float scale_log2;  // of a query times a key as it is cached, in the base-2 domain
};

template <int kRowBytes>
__device__ __forceinline__ KvSource kv_source(const blendserve_paged_decode_params& params, const CUtensorMap& kv_map,
                                              const DecodeLaunch& launch) {
  return {static_cast<const unsigned char*>(params.kv),
          &kv_map,
          {params.num_blocks, params.num_kv_heads, params.block_size, kRowBytes},
          launch.block_size};
}

template <typename T, typename Kv, int kHeadDim, int kQueryTiles, template <int> typename TileCopy>
__device__ __forceinline__ void run_cta(const blendserve_paged_decode_params& params, const CUtensorMap& kv_map,
                                        const DecodeLaunch& launch) {
  constexpr int kRowBytes = kKvRowBytes<Kv, kHeadDim>;
  using Tile = KvTile<kRowBytes>;
  extern __shared__ __align__(1024) unsigned char shared[];
  using Ring = TileRing<kRowBytes, TileCopy<kRowBytes>, TileCursor>;
  auto& scratch = *reinterpret_cast<DecodeScratch<kHeadDim, kQueryTiles>*>(shared + kDecodeRingBytes);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const DecodePlanView plan(params.plan, params.num_ctas);
  Ring ring(ptx::shared_address(shared) + static_cast<std::uint32_t>(warp * Ring::kBytes),
            ptx::shared_address(&scratch.barriers[warp * Ring::kNumStages]), TileCursor(plan, params.block_table, warp),
            TileCopy<kRowBytes>(kv_source<kRowBytes>(params, kv_map, launch)));

  std::int32_t index = plan.cta_indptr()[blockIdx.x];
  const std::int32_t end = plan.cta_indptr()[blockIdx.x + 1];
  if (index == end) {
    return;
  }
  const int group = params.num_heads / params.num_kv_heads;
  GroupAttention<T, Kv, kHeadDim, kQueryTiles> attention;
  const auto load_queries = [&](const DecodeItem& item) {
    const T* q = static_cast<const T*>(params.q) + item.row * params.q_stride + item.kv_head * group * kHeadDim;
    attention.load_queries([&](int query) { return query < group ? q + query * kHeadDim : nullptr; });
  };
  DecodeItem item = plan.items()[index];
  load_queries(item);
  while (true) {
    attention.reset();
    for (std::int32_t position = item.kv_begin + warp * Tile::kTokens; position < item.kv_end;
         position += kDecodeWarps * Tile::kTokens) {
      attention.read_tile(ring.wait());
      ring.release();
      attention.add_tile(min(Tile::kTokens, item.kv_end - position), launch.scale_log2);
    }
    const DecodeItem done = item;
    if (++index < end) {  // the next queries come while this item is joined
      item = plan.items()[index];
      load_queries(item);
    }
    write_item<T, Kv, kHeadDim, kQueryTiles>(params, done, attention, scratch, group);
    if (index == end) {
      return;
    }
  }
}

template <typename T, typename Kv, int kHeadDim, int kQueryTiles, template <int> typename TileCopy>
__global__ void __launch_bounds__(kDecodeWarps * 32, 1)
    paged_decode_kernel(const __grid_constant__ blendserve_paged_decode_params params,
                        const __grid_constant__ CUtensorMap kv_map, const __grid_constant__ DecodeLaunch launch) {
#if __CUDA_ARCH__ < 900
  if constexpr (!TileCopy<kKvRowBytes<Kv, kHeadDim>>::kNeedsSm90) {
    run_cta<T, Kv, kHeadDim, kQueryTiles, TileCopy>(params, kv_map, launch);
  }
#else
  run_cta<T, Kv, kHeadDim, kQueryTiles, TileCopy>(params, kv_map, launch);
#endif
}

}  // namespace blendserve::cuda
