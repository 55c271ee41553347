#pragma once

#include <cstdint>

#include "kernels/cuda/host_device.h"

namespace blendserve::cuda {

// The e4m3 numbers in bytes 0 and 1 of a word, or in bytes 2 and 3, as a pair of float16 numbers that are 256 times
// smaller: sign, exponent and mantissa moved to their places, where the exponent's bias is 8 more. Exact; a NaN becomes
// 480 / 256.
BLENDSERVE_HOST_DEVICE constexpr std::uint32_t e4m3_pair_as_small_halves(std::uint32_t word, int pair) {
  const std::uint32_t high_bytes =
      pair == 0 ? (word & 0xFF00U) << 16 | (word & 0xFFU) << 8 : (word & 0xFF000000U) | (word >> 8 & 0xFF00U);
  return (high_bytes & 0x80008000U) | (high_bytes & 0x7F007F00U) >> 1;
}

}  // namespace blendserve::cuda
