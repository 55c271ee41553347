#pragma once

#include <cstdint>

#include "kernels/cuda/paged_decode.cuh"
#include "kernels/cuda/shared_item.h"

// Decode over what several rows share: a CTA reads the shared keys and values once for the queries of all the rows of
// an item. Each warp holds the queries of one slice in registers (shared_item.h). Copies are those of paged_decode.cuh,
// but the warps go through the stages together: a tile that one warp has copied is read by every slice, and given up at
// the barrier at the end of its round.
namespace blendserve::cuda {

inline constexpr int kSliceTiles = kSliceQueries / 8;

// Joins the lanes of each slice and writes the partial results of all members. Lane 0 has a tile of every item. Ends
// with a barrier.
template <typename T, typename Kv, int kHeadDim>
__device__ void write_shared_item(const blendserve_paged_decode_params& params, const SharedItem& item,
                                  const SharedMember* members,
                                  const GroupAttention<T, Kv, kHeadDim, kSliceTiles>& attention,
                                  DecodeScratch<kHeadDim, kSliceTiles>& scratch, int group) {
  constexpr int kQuads = kHeadDim / 4;
  const PartialSlots slots = partial_slots(params);
  const int num_queries = item.num_members * group;
  const WarpGrid grid(num_queries);
#pragma unroll
  for (int n = 0; n < kSliceTiles; ++n) {
    share_query_tile(attention, n, scratch);
    for (int at = static_cast<int>(threadIdx.x); at < grid.num_slices * 8 * kQuads; at += kDecodeWarps * 32) {
      const int slice = at / (8 * kQuads);
      const int in_tile = at / kQuads % 8;
      const int d = at % kQuads * 4;
      const int in_slice = n * 8 + in_tile;
      const int query = slice * kSliceQueries + in_slice;
      if (query < num_queries) {
        const SharedQuery which(query, group);
        const std::int64_t partial = members[which.member].partial;
        store_partial(slots, partial * group + which.head, kHeadDim, d,
                      join_warps(scratch, slice * grid.num_lanes, grid.num_lanes, in_slice, in_tile, d));
      }
    }
    __syncthreads();
  }
}

template <typename T, typename Kv, int kHeadDim, template <int> typename TileCopy>
__device__ __forceinline__ void run_shared_cta(const blendserve_paged_decode_params& params, const CUtensorMap& kv_map,
                                               const DecodeLaunch& launch) {
  constexpr int kRowBytes = kKvRowBytes<Kv, kHeadDim>;
  extern __shared__ __align__(1024) unsigned char shared[];
  using Ring = TileRing<kRowBytes, TileCopy<kRowBytes>, RoundCursor>;
  auto& scratch = *reinterpret_cast<DecodeScratch<kHeadDim, kSliceTiles>*>(shared + kDecodeRingBytes);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int group = params.num_heads / params.num_kv_heads;
  const DecodePlanView plan(params.plan, params.num_ctas);
  Ring ring(ptx::shared_address(shared) + static_cast<std::uint32_t>(warp * Ring::kBytes),
            ptx::shared_address(&scratch.barriers[warp * Ring::kNumStages]),
            RoundCursor(plan, params.block_table, warp),
            TileCopy<kRowBytes>(kv_source<kRowBytes>(params, kv_map, launch)));
  __syncthreads();  // every warp waits at every warp's barriers

  const std::int32_t end = plan.shared_cta_indptr()[blockIdx.x + 1];
  for (std::int32_t index = plan.shared_cta_indptr()[blockIdx.x]; index < end; ++index) {
    const SharedItem item = plan.shared_items()[index];
    const SharedMember* members = plan.members() + item.first_member;
    const int num_queries = item.num_members * group;
    const WarpGrid grid(num_queries);
    GroupAttention<T, Kv, kHeadDim, kSliceTiles> attention;
    attention.load_queries([&](int in_slice) -> const T* {
      const int query = grid.slice(warp) * kSliceQueries + in_slice;
      if (query >= num_queries) {
        return nullptr;
      }
      const SharedQuery which(query, group);
      return static_cast<const T*>(params.q) + members[which.member].row * params.q_stride +
             (item.kv_head * group + which.head) * kHeadDim;
    });
    attention.reset();
    for (std::int32_t round = item.kv_begin; round < item.kv_end; round += kRoundTokens) {
      for (int slot = grid.lane(warp); slot < kDecodeWarps; slot += grid.num_lanes) {
        const std::int32_t num_left = item.kv_end - round - slot * kDecodeTileTokens;
        if (num_left <= 0) {
          break;
        }
        attention.read_tile(ring.wait_for_warp(slot - warp));
        attention.add_tile(min(kDecodeTileTokens, num_left), launch.scale_log2);
      }
      __syncthreads();
      ring.release();
    }
    write_shared_item(params, item, members, attention, scratch, group);
  }
}

template <typename T, typename Kv, int kHeadDim, template <int> typename TileCopy>
__global__ void __launch_bounds__(kDecodeWarps * 32, 1)
    shared_decode_kernel(const __grid_constant__ blendserve_paged_decode_params params,
                         const __grid_constant__ CUtensorMap kv_map, const __grid_constant__ DecodeLaunch launch) {
#if __CUDA_ARCH__ < 900
  if constexpr (!TileCopy<kKvRowBytes<Kv, kHeadDim>>::kNeedsSm90) {
    run_shared_cta<T, Kv, kHeadDim, TileCopy>(params, kv_map, launch);
  }
#else
  run_shared_cta<T, Kv, kHeadDim, TileCopy>(params, kv_map, launch);
#endif
}

}  // namespace blendserve::cuda
