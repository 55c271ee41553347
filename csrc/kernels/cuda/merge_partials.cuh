#pragma once

#include <cstdint>

#include "kernels/cuda/paged_decode.h"
#include "kernels/cuda/ptx.cuh"

namespace blendserve::cuda {

inline constexpr int kMergeWarps = 8;

// One warp per (merge, query of the group).
template <typename T>
__global__ void __launch_bounds__(kMergeWarps * 32)
    merge_partials_kernel(const __grid_constant__ blendserve_paged_decode_params params) {
  const DecodePlanView plan(params.plan, params.num_ctas);
  const PartialSlots slots = partial_slots(params);
  const int group = params.num_heads / params.num_kv_heads;
  const int num_rows = plan.header().num_merges * group;
  const int warp = static_cast<int>(blockIdx.x) * kMergeWarps + static_cast<int>(threadIdx.x) / 32;
  for (int at = warp; at < num_rows; at += static_cast<int>(gridDim.x) * kMergeWarps) {
    const DecodeMerge merge = plan.merges()[at / group];
    const int query = at % group;
    const std::int64_t first = std::int64_t{merge.partial_begin} * group + query;
    const PartialRows parts{slots.states + first, slots.outputs + first * params.head_dim,
                            merge.partial_end - merge.partial_begin, group, params.head_dim};
    const SoftmaxState merged = parts.merged_state();
    T* out =
        static_cast<T*>(params.out) + merge.row * params.out_stride + (merge.kv_head * group + query) * params.head_dim;
    for (int d = static_cast<int>(threadIdx.x) % 32; d < params.head_dim; d += 32) {
      out[d] = static_cast<T>(parts.merged_output(merged, d) * params.v_scale);
    }
  }
}

}  // namespace blendserve::cuda
