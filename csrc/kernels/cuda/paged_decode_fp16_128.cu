#include "kernels/cuda/paged_decode_launch.cuh"

template void blendserve::cuda::launch_paged_decode<__half, __half, 128>(const blendserve_paged_decode_params&,
                                                                         cudaStream_t);
