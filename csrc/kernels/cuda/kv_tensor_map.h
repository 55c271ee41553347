#pragma once

#include <cuda.h>

#include "kernels/cuda/blendserve_cuda.h"

namespace blendserve::cuda {

// Describes one layer's keys and values to the bulk tensor copy engine: coordinate r is row r of the flat [..,
// head_dim] array, and one copy brings 16 rows of K and the 16 rows of V that belong to them, swizzled, as KvTile wants
// them. Elements are bytes to the engine, element_bytes (1 or 2) of them each.
CUtensorMap make_kv_tensor_map(const blendserve_paged_decode_params& params, int element_bytes);

}  // namespace blendserve::cuda
