#include "kernels/cuda/paged_decode.h"

#include <limits>
#include <string>

#include "base/error.h"
#include "base/kv_layout.h"
#include "kernels/cuda/decode_plan.h"
#include "kernels/cuda/dtypes.h"

namespace blendserve::cuda {
namespace {

void check_shape(const blendserve_paged_decode_params& params) {
  if (params.head_dim != 64 && params.head_dim != 128) {
    throw InvalidInput("head_dim is " + std::to_string(params.head_dim) +
                       "; this kernel has 64 and 128, paged_attention takes others");
  }
  if (params.num_kv_heads < 1 || params.num_heads % params.num_kv_heads != 0 ||
      params.num_heads / params.num_kv_heads < 1 || params.num_heads / params.num_kv_heads > kMaxDecodeGroup) {
    throw InvalidInput("num_heads is " + std::to_string(params.num_heads) + " and num_kv_heads " +
                       std::to_string(params.num_kv_heads) + "; the first must be 1 to " +
                       std::to_string(kMaxDecodeGroup) + " times the second");
  }
  if (params.num_ctas < 1) {
    throw InvalidInput("num_ctas is " + std::to_string(params.num_ctas) + "; it must be 1 or more");
  }
}

void check_memory(const blendserve_paged_decode_params& params) {
  const KvLayout layout{params.num_blocks, params.num_kv_heads, params.block_size, params.head_dim};
  if (params.block_size < 1 || params.num_blocks < 1 ||
      layout.layer_size() / params.head_dim > std::numeric_limits<std::int32_t>::max()) {
    throw InvalidInput("num_blocks is " + std::to_string(params.num_blocks) + " and block_size " +
                       std::to_string(params.block_size) +
                       "; both must be 1 or more, and a layer must have fewer than 2^31 rows of keys and values");
  }
  if (params.max_partials < min_decode_partials(params.num_ctas)) {
    throw InvalidInput("max_partials is " + std::to_string(params.max_partials) + "; it must be " +
                       std::to_string(min_decode_partials(params.num_ctas)) + " or more for " +
                       std::to_string(params.num_ctas) + " CTAs");
  }
  const std::int64_t needed =
      params.max_partials * decode_partial_bytes(params.num_heads / params.num_kv_heads, params.head_dim);
  if (params.workspace_bytes < needed) {
    throw InvalidInput("workspace_bytes is " + std::to_string(params.workspace_bytes) + "; " + std::to_string(needed) +
                       " are needed (max_partials * blendserve_decode_partial_bytes)");
  }
}

}  // namespace

void paged_decode(const blendserve_paged_decode_params& params, cudaStream_t stream) {
  check_shape(params);
  check_dtypes(params.dtype, params.kv_dtype, params.k_scale, params.v_scale);
  check_memory(params);
  with_types(params.dtype, params.kv_dtype, [&]<typename T, typename Kv>() {
    if (params.head_dim == 64) {
      launch_paged_decode<T, Kv, 64>(params, stream);
    } else {
      launch_paged_decode<T, Kv, 128>(params, stream);
    }
  });
  launch_merge_partials(params, stream);
}

}  // namespace blendserve::cuda
