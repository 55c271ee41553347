#pragma once

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

namespace blendserve::cuda {

class DeviceError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

inline void check_cuda(cudaError_t status, const char* what) {
  if (status != cudaSuccess) {
    throw DeviceError(std::string(what) + " failed: " + cudaGetErrorString(status));
  }
}

}  // namespace blendserve::cuda
