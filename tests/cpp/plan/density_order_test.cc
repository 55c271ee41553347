#include "plan/density_order.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <numeric>
#include <vector>

using namespace blendserve;

TEST_CASE("items come densest first, whatever was sorted before with the same buffers") {
  DensityOrder order;
  for (const std::uint32_t size : {1000U, 97U, 500U, 3U, 200U}) {
    std::vector<double> densities(size);
    for (std::uint32_t i = 0; i < size; ++i) densities[i] = static_cast<double>(i * 7919U % 101U) / 8;
    std::vector<std::uint32_t> items(size);
    std::iota(items.begin(), items.end(), 0U);
    auto expected = items;
    std::ranges::stable_sort(expected, std::ranges::greater{}, [&](std::uint32_t item) { return densities[item]; });
    order.sort(items, [&](std::uint32_t item) { return densities[item]; });
    CHECK(items == expected);
  }
}
