#include <algorithm>
#include <cstdint>
#include <string>

#include "base/error.h"
#include "kernels/cuda/device_error.h"
#include "kernels/cuda/dtypes.h"
#include "kernels/cuda/kv_append.cuh"
#include "kernels/cuda/kv_append.h"

namespace blendserve::cuda {
namespace {

constexpr int kMaxCtas = 4096;

void check(const blendserve_kv_append_params& params) {
  if (params.head_dim < 2 * kAppendElements || params.head_dim % (2 * kAppendElements) != 0 ||
      params.q_stride % kAppendElements != 0 || params.k_stride % kAppendElements != 0 ||
      params.v_stride % kAppendElements != 0) {
    throw InvalidInput("head_dim is " + std::to_string(params.head_dim) + ", q_stride " +
                       std::to_string(params.q_stride) + ", k_stride " + std::to_string(params.k_stride) +
                       ", v_stride " + std::to_string(params.v_stride) +
                       "; the first must be a multiple of 16, the others of 8");
  }
  if (params.num_tokens < 0 || params.num_kv_heads < 1 || params.block_size < 1) {
    throw InvalidInput("num_tokens is " + std::to_string(params.num_tokens) + ", num_kv_heads " +
                       std::to_string(params.num_kv_heads) + ", block_size " + std::to_string(params.block_size) +
                       "; the first must be 0 or more, the others 1 or more");
  }
  if ((params.cos == nullptr) != (params.signed_sin == nullptr) ||
      (params.cos != nullptr && (params.q == nullptr || params.num_heads < 1))) {
    throw InvalidInput("a rotation needs cos, signed_sin, q and num_heads (" + std::to_string(params.num_heads) +
                       "); without one leave cos and signed_sin null");
  }
  check_dtypes(params.dtype, params.kv_dtype, params.k_scale, params.v_scale);
}

}  // namespace

void kv_append(const blendserve_kv_append_params& params, cudaStream_t stream) {
  check(params);
  if (params.num_tokens == 0) {
    return;
  }
  const auto grid = static_cast<unsigned>(std::min(kMaxCtas, params.num_tokens));
  with_types(params.dtype, params.kv_dtype,
             [&]<typename T, typename Kv>() { kv_append_kernel<T, Kv><<<grid, kAppendThreads, 0, stream>>>(params); });
  check_cuda(cudaGetLastError(), "launching the append kernel");
}

}  // namespace blendserve::cuda
