#include "kernels/cuda/fast_divisor.h"

#include <catch2/catch.hpp>
#include <limits>

#include "base/rng.h"

using namespace blendserve;
using namespace blendserve::cuda;

TEST_CASE("FastDivisor divides every non-negative int32 exactly") {
  constexpr std::int32_t kMax = std::numeric_limits<std::int32_t>::max();
  for (const std::int32_t divisor : {1, 2, 3, 5, 7, 12, 16, 24, 64, 1000, 65537, (1 << 30) + 1, kMax}) {
    const FastDivisor fast(divisor);
    const auto check = [&](std::int32_t n) {
      const std::int32_t quotient = fast.quotient(n);
      REQUIRE(quotient == n / divisor);
      REQUIRE(fast.remainder(n, quotient) == n % divisor);
    };
    for (std::uint64_t draw = 0; draw < 2000; ++draw) {
      const auto n = static_cast<std::int32_t>(random_bits(static_cast<std::uint64_t>(divisor), draw) >> 33U);
      check(n);
      check(n / divisor * divisor);
      check(n < divisor ? 0 : n / divisor * divisor - 1);
    }
    check(0);
    check(kMax);
  }
}
