#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/device_error.h"

namespace blendserve::cuda {

struct DeviceLimits {
  int device = -1;
  int major = 0;  // of the compute capability
  int num_sms = 0;
  int shared_bytes = 0;  // a CTA's at most

  // Of the current device; read from the driver when that is another one than at this thread's last call.
  static const DeviceLimits& current() {
    thread_local DeviceLimits limits;
    int device = 0;
    check_cuda(cudaGetDevice(&device), "cudaGetDevice");
    if (device != limits.device) {
      const auto read = [&](cudaDeviceAttr attribute) {
        int value = 0;
        check_cuda(cudaDeviceGetAttribute(&value, attribute, device), "reading a device attribute");
        return value;
      };
      limits = {device, read(cudaDevAttrComputeCapabilityMajor), read(cudaDevAttrMultiProcessorCount),
                read(cudaDevAttrMaxSharedMemoryPerBlockOptin)};
    }
    return limits;
  }
};

}  // namespace blendserve::cuda
