#include "kernels/cuda/device_error.h"
#include "kernels/cuda/merge_partials.cuh"
#include "kernels/cuda/paged_decode.h"

namespace blendserve::cuda {

void launch_merge_partials(const blendserve_paged_decode_params& params, cudaStream_t stream) {
  const auto grid = static_cast<unsigned>(params.num_ctas);
  if (params.dtype == BLENDSERVE_FLOAT16) {
    merge_partials_kernel<__half><<<grid, kMergeWarps * 32, 0, stream>>>(params);
  } else {
    merge_partials_kernel<__nv_bfloat16><<<grid, kMergeWarps * 32, 0, stream>>>(params);
  }
  check_cuda(cudaGetLastError(), "launching the merge kernel");
}

}  // namespace blendserve::cuda
