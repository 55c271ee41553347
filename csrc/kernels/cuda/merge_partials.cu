#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels/cuda/device_error.h"
#include "kernels/cuda/paged_decode.h"

namespace blendserve::cuda {
namespace {

constexpr int kWarps = 8;

// One warp per (merge, query of the group).
template <typename T>
__global__ void __launch_bounds__(kWarps * 32)
    merge_partials_kernel(const __grid_constant__ blendserve_paged_decode_params params) {
  const DecodePlanView plan(params.plan, params.num_ctas);
  const PartialSlots slots = partial_slots(params);
  const int group = params.num_heads / params.num_kv_heads;
  const int num_rows = plan.header().num_merges * group;
  const int warp = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / 32;
  for (int at = warp; at < num_rows; at += static_cast<int>(gridDim.x) * kWarps) {
    const DecodeMerge merge = plan.merges()[at / group];
    const int query = at % group;
    const std::int64_t first = std::int64_t{merge.partial_begin} * group + query;
    const PartialRows parts{slots.states + first, slots.outputs + first * params.head_dim,
                            merge.partial_end - merge.partial_begin, group, params.head_dim};
    const SoftmaxState merged = parts.merged_state();
    T* out =
        static_cast<T*>(params.out) + merge.row * params.out_stride + (merge.kv_head * group + query) * params.head_dim;
    for (int d = static_cast<int>(threadIdx.x) % 32; d < params.head_dim; d += 32) {
      out[d] = static_cast<T>(parts.merged_output(merged, d));
    }
  }
}

}  // namespace

void launch_merge_partials(const blendserve_paged_decode_params& params, cudaStream_t stream) {
  const auto grid = static_cast<unsigned>(params.num_ctas);
  if (params.dtype == BLENDSERVE_FLOAT16) {
    merge_partials_kernel<__half><<<grid, kWarps * 32, 0, stream>>>(params);
  } else {
    merge_partials_kernel<__nv_bfloat16><<<grid, kWarps * 32, 0, stream>>>(params);
  }
  check_cuda(cudaGetLastError(), "launching the merge kernel");
}

}  // namespace blendserve::cuda
