#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/blendserve_cuda.h"
#include "kernels/cuda/softmax_state.h"

namespace blendserve::cuda {

inline constexpr std::int32_t kMaxHeadDim = 256;

// The workspace: rows of partial results, outputs [rows, head_dim] unnormalised, then states [rows].
struct PartialRowsOf {
  float* outputs;
  SoftmaxState* states;
};

BLENDSERVE_HOST_DEVICE inline PartialRowsOf partial_rows(const blendserve_paged_attention_params& params) {
  auto* outputs = static_cast<float*>(params.workspace);
  return {outputs, reinterpret_cast<SoftmaxState*>(outputs + max_partial_rows(params.num_ctas) * params.head_dim)};
}

constexpr std::int64_t attention_workspace_bytes(std::int32_t num_ctas, std::int32_t head_dim) {
  return max_partial_rows(num_ctas) *
         (std::int64_t{head_dim} * std::int64_t{sizeof(float)} + std::int64_t{sizeof(SoftmaxState)});
}

// Queues the attention and the merge kernel of one type of queries and one of cached elements, for heads of up to
// kHeadDim elements.
template <typename T, typename Kv, int kHeadDim>
void launch_paged_attention(const blendserve_paged_attention_params& params, cudaStream_t stream);

// The whole operation. Throws on bad input and CUDA errors.
void paged_attention(const blendserve_paged_attention_params& params, cudaStream_t stream);

}  // namespace blendserve::cuda
