#pragma once

#include <cstdint>

#include "kernels/cuda/host_device.h"

namespace blendserve::cuda {

// Division by a number known only at run time as one multiplication: exact for 0 <= n < 2^31.
class FastDivisor {
 public:
  explicit constexpr FastDivisor(std::int32_t divisor) : divisor_(divisor) {
    while ((std::int64_t{1} << shift_) < divisor) {
      ++shift_;
    }
    const std::uint64_t scale = std::uint64_t{1} << (31 + shift_);
    const auto wide = static_cast<std::uint64_t>(divisor);
    multiplier_ = static_cast<std::uint32_t>((scale + wide - 1) / wide);
  }

  BLENDSERVE_HOST_DEVICE constexpr std::int32_t quotient(std::int32_t n) const {
    return static_cast<std::int32_t>((std::uint64_t{static_cast<std::uint32_t>(n)} * multiplier_) >> (31 + shift_));
  }
  BLENDSERVE_HOST_DEVICE constexpr std::int32_t remainder(std::int32_t n, std::int32_t quotient) const {
    return n - quotient * divisor_;
  }

 private:
  std::int32_t divisor_;
  std::uint32_t shift_ = 0;
  std::uint32_t multiplier_ = 0;  // ceil(2^(31 + shift_) / divisor_) <= 2^31
};

}  // namespace blendserve::cuda
