#include "kernels/cuda/flashinfer_prefill.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <string>

#include "base/error.h"

namespace blendserve::cuda {
namespace {

void check(const blendserve_flashinfer_prefill_params& params) {
  if (params.head_dim != 64 && params.head_dim != 128) {
    throw InvalidInput("head_dim is " + std::to_string(params.head_dim) +
                       "; FlashInfer's prefill is built for 64 and 128, use the native_cuda attention backend");
  }
  if (params.dtype != BLENDSERVE_BFLOAT16 && params.dtype != BLENDSERVE_FLOAT16) {
    throw InvalidInput("dtype is " + std::to_string(params.dtype) + "; it must be bfloat16 (0) or float16 (1)");
  }
  const std::int64_t needed = params.planned.num_partial_tokens * params.num_heads * (2 * params.head_dim + 4);
  if (params.workspace_bytes < needed) {
    throw InvalidInput("workspace_bytes is " + std::to_string(params.workspace_bytes) + "; the plan needs " +
                       std::to_string(needed) + " (blendserve_attention_workspace_bytes is enough)");
  }
}

template <typename T>
void launch_for_head_dim(const blendserve_flashinfer_prefill_params& params, cudaStream_t stream) {
  if (params.head_dim == 64) {
    launch_flashinfer_prefill<T, 64>(params, stream);
  } else {
    launch_flashinfer_prefill<T, 128>(params, stream);
  }
}

}  // namespace

void flashinfer_prefill(const blendserve_flashinfer_prefill_params& params, cudaStream_t stream) {
  check(params);
  if (params.dtype == BLENDSERVE_FLOAT16) {
    launch_for_head_dim<__half>(params, stream);
  } else {
    launch_for_head_dim<__nv_bfloat16>(params, stream);
  }
}

}  // namespace blendserve::cuda
