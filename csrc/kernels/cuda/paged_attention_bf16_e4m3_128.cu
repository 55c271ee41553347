#include "kernels/cuda/paged_attention_launch.cuh"

template void blendserve::cuda::launch_paged_attention<__nv_bfloat16, __nv_fp8_e4m3, 128>(
    const blendserve_paged_attention_params&, cudaStream_t);
