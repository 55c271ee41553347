#include "perf/memory_partition.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "base/error.h"

using namespace blendserve;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

void check_left(double rho_left, double rho_right, double rho_root, double left) {
  CAPTURE(rho_left, rho_right, rho_root);
  const MemoryPartition sides = partition(60, rho_left, rho_right, rho_root);
  CHECK(sides.left == Approx(left));
  CHECK(sides.right == Approx(60 - left));
}

}  // namespace

TEST_CASE("the paper's example is divided as it says") {
  const MemoryPartition sides = partition(60e9, 3.73, 0.096, 1.27);
  CHECK(sides.left == Approx(19.4e9).epsilon(0.002));
  CHECK(sides.right == Approx(40.6e9).epsilon(0.002));
  CHECK(sides.left * 3.73 + sides.right * 0.096 == Approx(60e9 * 1.27));
}

TEST_CASE("a root density that the sides cannot reach is clamped to one side") {
  check_left(2, 0.5, 3, 60);
  check_left(2, 0.5, 2, 60);
  check_left(2, 0.5, 0.5, 0);
  check_left(2, 0.5, 0.1, 0);
}

TEST_CASE("sides of one density get half each") {
  check_left(1, 1, 1, 30);
  check_left(1, 1, 5, 30);
  check_left(kInfinity, kInfinity, 1, 30);
}

TEST_CASE("sides in the wrong order get what they would get in the right one") {
  check_left(0.5, 2, 0.8, 60 - partition(60, 2, 0.5, 0.8).left);
  check_left(0.5, 2, 9, 0);
}

TEST_CASE("a side without memory time takes no memory unless nothing else is left") {
  check_left(kInfinity, 0.5, 2, 0);
  check_left(kInfinity, 0.5, kInfinity, 60);
  check_left(2, kInfinity, 3, 60);
}

TEST_CASE("a partition of nonsense is refused") {
  CHECK_THROWS_AS(partition(-1, 2, 1, 1), InvalidInput);
  CHECK_THROWS_AS(partition(kInfinity, 2, 1, 1), InvalidInput);
  CHECK_THROWS_AS(partition(1, std::nan(""), 1, 1), InvalidInput);
  CHECK_THROWS_AS(partition(1, 2, -1, 1), InvalidInput);
  CHECK_THROWS_AS(partition(1, 2, 1, std::nan("")), InvalidInput);
}
