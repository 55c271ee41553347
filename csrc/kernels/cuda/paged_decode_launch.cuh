#pragma once

#include <string>

#include "base/error.h"
#include "kernels/cuda/device_error.h"
#include "kernels/cuda/device_limits.h"
#include "kernels/cuda/kv_tensor_map.h"
#include "kernels/cuda/paged_decode.cuh"
#include "kernels/cuda/shared_decode.cuh"

namespace blendserve::cuda {

// Lets a kernel have the dynamic shared memory that it needs for its stages and its scratch; returns how many bytes.
inline int reserve_shared_memory(const void* kernel, int scratch_bytes, const DeviceLimits& limits) {
  cudaFuncAttributes code{};
  check_cuda(cudaFuncGetAttributes(&code, kernel), "reading a kernel's attributes");
  const int bytes = decode_ring_bytes(code.binaryVersion) + scratch_bytes;
  if (bytes > limits.shared_bytes) {
    throw InvalidInput("a CTA has at most " + std::to_string(limits.shared_bytes) +
                       " bytes of shared memory on this device, but the code for sm_" +
                       std::to_string(code.binaryVersion) + " needs " + std::to_string(bytes) +
                       "; build the library for this device or use the torch_ref attention backend");
  }
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
             "reserving shared memory");
  return bytes;
}

// CTAs that must be neighbours on the chip. Four at a time read faster than scattered ones and leave whole pairs of
// multiprocessors to the clusters of a GEMM; a grid that takes most of the chip cannot be packed so.
inline unsigned cluster_size(int num_ctas, const DeviceLimits& limits) {
  return limits.major >= 9 && num_ctas % 4 == 0 && num_ctas * 4 <= limits.num_sms * 3 ? 4 : 1;
}

// Queues one of the two attention kernels, whose scratch is for `kQueryTiles` query tiles a warp.
template <auto kKernel, int kHeadDim, int kQueryTiles>
void launch_attention(const blendserve_paged_decode_params& params, const CUtensorMap& kv_map,
                      const DeviceLimits& limits, cudaStream_t stream) {
  constexpr float kLog2E = 1.4426950408889634F;
  static_assert(decode_ring_bytes(89) + sizeof(DecodeScratch<kHeadDim, kQueryTiles>) <= 99 * 1024);
  thread_local int prepared_device = -1;
  thread_local int shared_bytes = 0;
  if (prepared_device != limits.device) {
    shared_bytes = reserve_shared_memory(reinterpret_cast<const void*>(kKernel),
                                         sizeof(DecodeScratch<kHeadDim, kQueryTiles>), limits);
    prepared_device = limits.device;
  }
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {cluster_size(params.num_ctas, limits), 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(params.num_ctas));
  config.blockDim = dim3(kDecodeWarps * 32);
  config.dynamicSmemBytes = static_cast<std::size_t>(shared_bytes);
  config.stream = stream;
  config.attrs = &cluster;
  config.numAttrs = limits.major >= 9 ? 1 : 0;
  const DecodeLaunch launch{FastDivisor(params.block_size), params.scale * params.k_scale * kLog2E};
  check_cuda(cudaLaunchKernelEx(&config, kKernel, params, kv_map, launch), "launching an attention kernel");
}

template <typename T, typename Kv, int kHeadDim, template <int> typename TileCopy>
void launch_with_copy(const blendserve_paged_decode_params& params, const CUtensorMap& kv_map,
                      const DeviceLimits& limits, cudaStream_t stream) {
  if (params.read_shared != 0) {
    launch_attention<shared_decode_kernel<T, Kv, kHeadDim, TileCopy>, kHeadDim, kSliceTiles>(params, kv_map, limits,
                                                                                             stream);
  }
  if (params.num_heads / params.num_kv_heads <= 8) {
    launch_attention<paged_decode_kernel<T, Kv, kHeadDim, 1, TileCopy>, kHeadDim, 1>(params, kv_map, limits, stream);
  } else {
    launch_attention<paged_decode_kernel<T, Kv, kHeadDim, 2, TileCopy>, kHeadDim, 2>(params, kv_map, limits, stream);
  }
}

template <typename T, typename Kv, int kHeadDim>
void launch_paged_decode(const blendserve_paged_decode_params& params, cudaStream_t stream) {
  const DeviceLimits& limits = DeviceLimits::current();
  const bool bulk_possible = limits.major >= 9 && params.block_size % kDecodeTileTokens == 0;
  if (params.kv_copy == BLENDSERVE_KV_COPY_BULK && !bulk_possible) {
    throw InvalidInput("kv_copy asks for bulk copies, which need sm_90 or newer (this is sm_" +
                       std::to_string(limits.major) + "x) and a block_size that is a multiple of 16 (it is " +
                       std::to_string(params.block_size) + "); leave it on auto");
  }
  if (bulk_possible && params.kv_copy != BLENDSERVE_KV_COPY_ASYNC) {
    launch_with_copy<T, Kv, kHeadDim, BulkTileCopy>(params, make_kv_tensor_map(params, int{sizeof(Kv)}), limits,
                                                    stream);
  } else {
    launch_with_copy<T, Kv, kHeadDim, AsyncTileCopy>(params, CUtensorMap{}, limits, stream);
  }
}

}  // namespace blendserve::cuda
