#pragma once

#include <algorithm>
#include <string>

#include "base/error.h"
#include "kernels/cuda/device_error.h"
#include "kernels/cuda/kv_tensor_map.h"
#include "kernels/cuda/paged_decode.cuh"

namespace blendserve::cuda {

struct DeviceLimits {
  int major = 0;
  int shared_bytes = 0;  // a CTA's at most

  static DeviceLimits current() {
    int device = 0;
    DeviceLimits limits;
    check_cuda(cudaGetDevice(&device), "cudaGetDevice");
    check_cuda(cudaDeviceGetAttribute(&limits.major, cudaDevAttrComputeCapabilityMajor, device),
               "reading the compute capability");
    check_cuda(cudaDeviceGetAttribute(&limits.shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
               "reading the shared memory size");
    return limits;
  }
};

template <typename T, int kHeadDim, int kQueryTiles, template <int> typename TileCopy>
void launch_paged_decode_kernel(const blendserve_paged_decode_params& params, const CUtensorMap& kv_map,
                                int shared_limit, cudaStream_t stream) {
  constexpr float kLog2E = 1.4426950408889634F;
  constexpr int kScratchBytes = sizeof(DecodeScratch<kHeadDim, kQueryTiles>);
  constexpr int kStageBytes = kDecodeWarps * KvTile<kHeadDim>::kBytes;
  const int num_stages = std::min(kMaxDecodeStages, (shared_limit - kScratchBytes) / kStageBytes);
  if (num_stages < 1) {
    throw InvalidInput("this device has " + std::to_string(shared_limit) + " bytes of shared memory for a CTA, but " +
                       std::to_string(kScratchBytes + kStageBytes) +
                       " are needed; sm_80 and newer data-center GPUs have them");
  }
  const int shared_bytes = num_stages * kStageBytes + kScratchBytes;
  auto* kernel = paged_decode_kernel<T, kHeadDim, kQueryTiles, TileCopy>;
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes),
             "reserving shared memory");
  const DecodeLaunch launch{FastDivisor(params.block_size), num_stages, params.scale * kLog2E};
  kernel<<<static_cast<unsigned>(params.num_ctas), kDecodeWarps * 32, static_cast<std::size_t>(shared_bytes), stream>>>(
      params, kv_map, launch);
  check_cuda(cudaGetLastError(), "launching the attention kernel");
}

template <typename T, int kHeadDim, int kQueryTiles>
void launch_with_copy(const blendserve_paged_decode_params& params, cudaStream_t stream) {
  const DeviceLimits limits = DeviceLimits::current();
  const bool bulk_possible = limits.major >= 9 && params.block_size % kDecodeTileTokens == 0;
  if (params.kv_copy == BLENDSERVE_KV_COPY_BULK && !bulk_possible) {
    throw InvalidInput("kv_copy asks for bulk copies, which need sm_90 or newer (this is sm_" +
                       std::to_string(limits.major) + "x) and a block_size that is a multiple of 16 (it is " +
                       std::to_string(params.block_size) + "); leave it on auto");
  }
  if (bulk_possible && params.kv_copy != BLENDSERVE_KV_COPY_ASYNC) {
    launch_paged_decode_kernel<T, kHeadDim, kQueryTiles, BulkTileCopy>(params, make_kv_tensor_map(params),
                                                                       limits.shared_bytes, stream);
  } else {
    launch_paged_decode_kernel<T, kHeadDim, kQueryTiles, AsyncTileCopy>(params, CUtensorMap{}, limits.shared_bytes,
                                                                        stream);
  }
}

template <typename T, int kHeadDim>
void launch_paged_decode(const blendserve_paged_decode_params& params, cudaStream_t stream) {
  if (params.num_heads / params.num_kv_heads <= 8) {
    launch_with_copy<T, kHeadDim, 1>(params, stream);
  } else {
    launch_with_copy<T, kHeadDim, 2>(params, stream);
  }
}

}  // namespace blendserve::cuda
