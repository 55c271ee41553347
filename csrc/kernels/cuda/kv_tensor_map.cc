#include "kernels/cuda/kv_tensor_map.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <string>

#include "base/kv_layout.h"
#include "kernels/cuda/decode_plan_view.h"
#include "kernels/cuda/device_error.h"

namespace blendserve::cuda {
namespace {

using TensorMapEncoder = decltype(&cuTensorMapEncodeTiled);

// Through the runtime, so that the library does not link the driver and loads on a machine without one.
TensorMapEncoder find_encoder() {
  void* symbol = nullptr;
  cudaDriverEntryPointQueryResult found{};
  check_cuda(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &symbol, 12000, cudaEnableDefault, &found),
             "looking up cuTensorMapEncodeTiled");
  if (found != cudaDriverEntryPointSuccess) {
    throw DeviceError("the driver has no cuTensorMapEncodeTiled; it must support CUDA 12.0 or newer");
  }
  return reinterpret_cast<TensorMapEncoder>(symbol);
}

}  // namespace

CUtensorMap make_kv_tensor_map(const blendserve_paged_decode_params& params, int element_bytes) {
  static const TensorMapEncoder encode = find_encoder();
  const int row_bytes = params.head_dim * element_bytes;
  const KvLayout layout{params.num_blocks, params.num_kv_heads, params.block_size, row_bytes};  // in bytes
  const auto v_distance = static_cast<cuuint64_t>(layout.num_kv_heads * layout.tile_size());
  const auto row = static_cast<cuuint64_t>(row_bytes);
  const cuuint64_t num_k_rows = (static_cast<cuuint64_t>(layout.layer_size()) - v_distance) / row;
  const auto width = static_cast<cuuint32_t>(std::min(row_bytes, 128));  // of a panel of KvTile

  const cuuint64_t sizes[4] = {width, num_k_rows, row / width, 2};
  const cuuint64_t strides[3] = {row, width, v_distance};
  const cuuint32_t box[4] = {width, kDecodeTileTokens, static_cast<cuuint32_t>(row / width), 2};
  const cuuint32_t element_strides[4] = {1, 1, 1, 1};
  CUtensorMap map;
  const CUresult status =
      encode(&map, CU_TENSOR_MAP_DATA_TYPE_UINT8, 4, const_cast<void*>(params.kv), sizes, strides, box, element_strides,
             CU_TENSOR_MAP_INTERLEAVE_NONE, width == 64 ? CU_TENSOR_MAP_SWIZZLE_64B : CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS) {
    throw DeviceError("cuTensorMapEncodeTiled refused the KV array (status " + std::to_string(status) + ")");
  }
  return map;
}

}  // namespace blendserve::cuda
