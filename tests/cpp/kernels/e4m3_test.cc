#include "kernels/cuda/e4m3.h"

#include <catch2/catch.hpp>
#include <cmath>

using namespace blendserve::cuda;

namespace {

// A number of sign, exponent and mantissa bits, by the definition that the formats share for all but infinities and
// NaN.
double number(std::uint32_t bits, int exponent_bits, int mantissa_bits) {
  const auto mantissa = static_cast<int>(bits & ((1U << mantissa_bits) - 1));
  const auto exponent = static_cast<int>(bits >> mantissa_bits & ((1U << exponent_bits) - 1));
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int lowest = 1 - bias - mantissa_bits;  // of a subnormal number's last bit
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, lowest) : std::ldexp(mantissa + (1 << mantissa_bits), lowest + exponent - 1);
  return (bits >> (exponent_bits + mantissa_bits) & 1) != 0 ? -magnitude : magnitude;
}

}  // namespace

TEST_CASE("the e4m3 numbers of a word become float16 numbers that are 256 times smaller, in their order") {
  for (std::uint32_t bits = 0; bits < 256; ++bits) {
    for (const std::uint32_t others : {0x00000000U, 0xFFFFFFFFU, 0x38C17E05U}) {
      for (int byte = 0; byte < 4; ++byte) {
        const std::uint32_t word = (others & ~(0xFFU << 8 * byte)) | bits << 8 * byte;
        const std::uint32_t pair = e4m3_pair_as_small_halves(word, byte / 2);
        REQUIRE(number(pair >> 16 * (byte % 2) & 0xFFFFU, 5, 10) * 256 == number(bits, 4, 3));
      }
    }
  }
}
