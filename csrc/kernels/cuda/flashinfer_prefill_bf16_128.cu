#include "kernels/cuda/flashinfer_launch.cuh"

template void blendserve::cuda::launch_flashinfer_prefill<__nv_bfloat16, 128>(
    const blendserve_flashinfer_prefill_params&, cudaStream_t);
