#pragma once

#include <string>

#include "base/error.h"
#include "kernels/cuda/device_error.h"
#include "kernels/cuda/device_limits.h"
#include "kernels/cuda/paged_attention.cuh"

namespace blendserve::cuda {

template <typename T, typename Kv, int kHeadDim>
void launch_paged_attention(const blendserve_paged_attention_params& params, cudaStream_t stream) {
  constexpr auto* kKernel = paged_attention_kernel<T, Kv, kHeadDim>;
  constexpr int kScratchBytes = sizeof(AttentionScratch);
  constexpr int kStageBytes = kRoundBytes<Kv>;
  static_assert(kScratchBytes + kMaxRingBytes / 2 <= 99 * 1024);
  const DeviceLimits& limits = DeviceLimits::current();
  constexpr int kMaxStages = kMaxRingBytes / kStageBytes;
  const bool has_room = kScratchBytes + kMaxRingBytes <= limits.shared_bytes;
  const int num_stages = has_room ? kMaxStages : kMaxStages / 2;
  const int shared_bytes = num_stages * kStageBytes + kScratchBytes;
  if (shared_bytes > limits.shared_bytes) {
    throw InvalidInput("a CTA has at most " + std::to_string(limits.shared_bytes) +
                       " bytes of shared memory on this device, but this kernel needs " + std::to_string(shared_bytes) +
                       "; use the torch_ref attention backend");
  }
  thread_local int prepared_device = -1;
  if (prepared_device != limits.device) {
    check_cuda(cudaFuncSetAttribute(reinterpret_cast<const void*>(kKernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    shared_bytes),
               "reserving shared memory");
    prepared_device = limits.device;
  }
  const AttentionLaunch launch = attention_launch(params, num_stages);
  const auto grid = static_cast<unsigned>(params.num_ctas);
  kKernel<<<grid, kDecodeWarps * 32, static_cast<std::size_t>(shared_bytes), stream>>>(params, launch);
  check_cuda(cudaGetLastError(), "launching the attention kernel");
  merge_rows_kernel<T><<<grid, kDecodeWarps * 32, 0, stream>>>(params, launch);
  check_cuda(cudaGetLastError(), "launching the merge kernel");
}

}  // namespace blendserve::cuda
