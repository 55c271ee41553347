#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/blendserve_cuda.h"
#include "kernels/cuda/decode_plan_view.h"
#include "kernels/cuda/softmax_state.h"

namespace blendserve::cuda {

inline constexpr int kDecodeRingBytes = 128 * 1024;  // of a CTA's stages: more makes DRAM slower, not faster
inline constexpr int kMaxDecodeGroup = 16;

// The workspace: partial results of `group` queries each, outputs [slots, group, head_dim] unnormalised, then states
// [slots, group].
struct PartialSlots {
  float* outputs;
  SoftmaxState* states;
};

BLENDSERVE_HOST_DEVICE inline PartialSlots partial_slots(const blendserve_paged_decode_params& params) {
  auto* outputs = static_cast<float*>(params.workspace);
  const std::int64_t num_queries = params.max_partials * (params.num_heads / params.num_kv_heads);
  return {outputs, reinterpret_cast<SoftmaxState*>(outputs + num_queries * params.head_dim)};
}

// Queues the attention kernels of one element type and head size: over what rows share, if asked, and over what each
// has to itself. Throws on bad input and CUDA errors.
template <typename T, int kHeadDim>
void launch_paged_decode(const blendserve_paged_decode_params& params, cudaStream_t stream);

// Queues the merge of the partial results that the kernel above leaves, within the same SM budget.
void launch_merge_partials(const blendserve_paged_decode_params& params, cudaStream_t stream);

// The whole operation.
void paged_decode(const blendserve_paged_decode_params& params, cudaStream_t stream);

}  // namespace blendserve::cuda
