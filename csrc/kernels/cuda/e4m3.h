#pragma once

#include <cstdint>

#include "kernels/cuda/host_device.h"

namespace blendserve::cuda {

// Two e4m3 numbers, each in the high byte of a half word, as float16 numbers that are 256 times smaller: sign, exponent
// and mantissa moved to their places, where the exponent's bias is 8 more. Exact; a NaN becomes 480 / 256.
BLENDSERVE_HOST_DEVICE constexpr std::uint32_t e4m3_pair_as_small_halves(std::uint32_t high_bytes) {
  return (high_bytes & 0x80008000U) | (high_bytes & 0x7F007F00U) >> 1;
}

}  // namespace blendserve::cuda
