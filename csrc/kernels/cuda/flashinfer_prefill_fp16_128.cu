#include "kernels/cuda/flashinfer_launch.cuh"

template void blendserve::cuda::launch_flashinfer_prefill<__half, 128>(const blendserve_flashinfer_prefill_params&,
                                                                       cudaStream_t);
