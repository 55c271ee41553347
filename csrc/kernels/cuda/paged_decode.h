#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/blendserve_cuda.h"
#include "kernels/cuda/decode_plan_view.h"
#include "kernels/cuda/softmax_state.h"

namespace blendserve::cuda {

// Bytes of a CTA's stages in code for sm_XX. More makes DRAM slower, not faster; the chips with 99 KB of shared memory
// for a CTA take half.
BLENDSERVE_HOST_DEVICE constexpr int decode_ring_bytes(int sm) {
  return sm == 86 || sm == 89 || sm >= 120 ? 64 * 1024 : 128 * 1024;
}

#if defined(__CUDA_ARCH__)
inline constexpr int kDecodeRingBytes = decode_ring_bytes(__CUDA_ARCH__ / 10);
#else
inline constexpr int kDecodeRingBytes = decode_ring_bytes(80);  // no code has more stages
#endif
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

// Queues the attention kernels of one type of queries, one of cached elements and one head size: over what rows share,
// if asked, and over what each has to itself. Throws on bad input and CUDA errors.
template <typename T, typename Kv, int kHeadDim>
void launch_paged_decode(const blendserve_paged_decode_params& params, cudaStream_t stream);

// Queues the merge of the partial results that the kernel above leaves, within the same SM budget.
void launch_merge_partials(const blendserve_paged_decode_params& params, cudaStream_t stream);

// The whole operation.
void paged_decode(const blendserve_paged_decode_params& params, cudaStream_t stream);

}  // namespace blendserve::cuda
