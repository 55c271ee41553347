#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/blendserve_cuda.h"

namespace blendserve::cuda {

// Queues the rotation of new queries and keys, and the copy of keys and values to their slots of the paged cache.
void kv_append(const blendserve_kv_append_params& params, cudaStream_t stream);

}  // namespace blendserve::cuda
