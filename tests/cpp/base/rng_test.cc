#include "base/rng.h"

#include <catch2/catch.hpp>

using namespace blendserve;

TEST_CASE("mix64 is splitmix64: its published first output for seed 1234567") {
  CHECK(mix64(1234567) == 6457827717110365317ULL);
}

TEST_CASE("random_uniform is a pure function of key and counter, uniform in [0, 1)") {
  double sum = 0;
  for (std::uint64_t i = 0; i < 10000; ++i) {
    const double u = random_uniform(7, i);
    REQUIRE(u >= 0.0);
    REQUIRE(u < 1.0);
    REQUIRE(u == random_uniform(7, i));
    sum += u;
  }
  CHECK(sum / 10000 == Approx(0.5).margin(0.01));
}
