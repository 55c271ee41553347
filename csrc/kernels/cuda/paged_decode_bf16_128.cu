#include "kernels/cuda/paged_decode_launch.cuh"

template void blendserve::cuda::launch_paged_decode<__nv_bfloat16, __nv_bfloat16, 128>(
    const blendserve_paged_decode_params&, cudaStream_t);
