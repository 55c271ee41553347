#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <cmath>
#include <cstdint>
#include <string>

#include "base/error.h"
#include "kernels/cuda/blendserve_cuda.h"

namespace blendserve::cuda {

// Throws InvalidInput unless there are kernels for queries of `dtype` over a cache of `kv_dtype`, and it may have these
// scales.
inline void check_dtypes(std::int32_t dtype, std::int32_t kv_dtype, float k_scale, float v_scale) {
  if (dtype != BLENDSERVE_BFLOAT16 && dtype != BLENDSERVE_FLOAT16) {
    throw InvalidInput("dtype is " + std::to_string(dtype) + "; it must be bfloat16 (0) or float16 (1)");
  }
  if (kv_dtype != dtype && kv_dtype != BLENDSERVE_FLOAT8_E4M3) {
    throw InvalidInput("kv_dtype is " + std::to_string(kv_dtype) + "; it must be dtype (" + std::to_string(dtype) +
                       ") or e4m3 (2)");
  }
  const auto is_scale = [&](float scale) {
    return kv_dtype == BLENDSERVE_FLOAT8_E4M3 ? scale > 0 && std::isfinite(scale) : scale == 1;
  };
  if (!is_scale(k_scale) || !is_scale(v_scale)) {
    throw InvalidInput("k_scale is " + std::to_string(k_scale) + " and v_scale " + std::to_string(v_scale) +
                       "; both must be positive for an e4m3 cache, and 1 for any other");
  }
}

// Calls run.operator()<T, Kv>() with the types of dtypes that were checked.
template <typename Run>
void with_types(std::int32_t dtype, std::int32_t kv_dtype, Run run) {
  const auto with_kv = [&]<typename T>() {
    if (kv_dtype == BLENDSERVE_FLOAT8_E4M3) {
      run.template operator()<T, __nv_fp8_e4m3>();
    } else {
      run.template operator()<T, T>();
    }
  };
  if (dtype == BLENDSERVE_FLOAT16) {
    with_kv.template operator()<__half>();
  } else {
    with_kv.template operator()<__nv_bfloat16>();
  }
}

}  // namespace blendserve::cuda
