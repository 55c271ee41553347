#include "kernels/cuda/paged_attention.h"

#include <string>

#include "base/error.h"
#include "kernels/cuda/dtypes.h"

namespace blendserve::cuda {
namespace {

void check_shape(const blendserve_paged_attention_params& params) {
  if (params.head_dim < 8 || params.head_dim > kMaxHeadDim || params.head_dim % 8 != 0) {
    throw InvalidInput("head_dim is " + std::to_string(params.head_dim) +
                       "; it must be a multiple of 8 (keys and "
                       "values are copied 16 bytes at a time) up to " +
                       std::to_string(kMaxHeadDim) +
                       " (a row's output is held in registers); use the torch_ref attention backend for others");
  }
  if (params.num_kv_heads < 1 || params.num_heads < 1 || params.num_heads % params.num_kv_heads != 0) {
    throw InvalidInput("num_heads is " + std::to_string(params.num_heads) + " and num_kv_heads " +
                       std::to_string(params.num_kv_heads) + "; the first must be a multiple of the second");
  }
  check_dtypes(params.dtype, params.kv_dtype, params.k_scale, params.v_scale);
  if (params.kv_dtype == BLENDSERVE_FLOAT8_E4M3 && params.head_dim % 16 != 0) {
    throw InvalidInput(
        "head_dim is " + std::to_string(params.head_dim) +
        "; with an e4m3 cache it must be a multiple of 16 (keys and values are copied 16 bytes at a time)");
  }
  if (params.num_ctas < 1 || params.window < 0 || !(params.softcap >= 0.0F)) {
    throw InvalidInput("num_ctas is " + std::to_string(params.num_ctas) + ", window " + std::to_string(params.window) +
                       " and softcap " + std::to_string(params.softcap) +
                       "; the first must be 1 or more, the others 0 or more");
  }
}

void check_memory(const blendserve_paged_attention_params& params) {
  if (params.block_size < 1 || params.num_blocks < 1 || params.q_stride % 2 != 0 || params.out_stride % 2 != 0) {
    throw InvalidInput("num_blocks is " + std::to_string(params.num_blocks) + ", block_size " +
                       std::to_string(params.block_size) + ", q_stride " + std::to_string(params.q_stride) +
                       " and out_stride " + std::to_string(params.out_stride) +
                       "; the first two must be 1 or more, the others even");
  }
  const std::int64_t needed = attention_workspace_bytes(params.num_ctas, params.head_dim);
  if (params.workspace_bytes < needed) {
    throw InvalidInput("workspace_bytes is " + std::to_string(params.workspace_bytes) + "; " + std::to_string(needed) +
                       " are needed (blendserve_attention_workspace_bytes)");
  }
}

}  // namespace

void paged_attention(const blendserve_paged_attention_params& params, cudaStream_t stream) {
  check_shape(params);
  check_memory(params);
  with_types(params.dtype, params.kv_dtype, [&]<typename T, typename Kv>() {
    if (params.head_dim <= 64) {
      launch_paged_attention<T, Kv, 64>(params, stream);
    } else if (params.head_dim <= 128) {
      launch_paged_attention<T, Kv, 128>(params, stream);
    } else {
      launch_paged_attention<T, Kv, 256>(params, stream);
    }
  });
}

}  // namespace blendserve::cuda
