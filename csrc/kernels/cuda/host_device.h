#pragma once

// Marks a function that the plain C++ compiler and nvcc both build: the code that host tests and kernels share.
#if defined(__CUDACC__)
#define BLENDSERVE_HOST_DEVICE __host__ __device__
#else
#define BLENDSERVE_HOST_DEVICE
#endif
