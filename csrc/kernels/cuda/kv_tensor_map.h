#pragma once

#include <cuda.h>

#include "kernels/cuda/blendserve_cuda.h"

namespace blendserve::cuda {

// Describes one layer's keys and values to the bulk tensor copy engine: coordinate r is row r of the flat [..,
// head_dim] array, and one copy brings 8 rows of K and the 8 rows of V that belong to them, swizzled, as KvTile wants
// them.
CUtensorMap make_kv_tensor_map(const blendserve_paged_decode_params& params);

}  // namespace blendserve::cuda
