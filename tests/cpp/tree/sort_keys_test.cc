#include "tree/sort_keys.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <vector>

#include "base/rng.h"

using namespace blendserve;

TEST_CASE("keys are sorted by their high bits alone and stably, whatever their number and range") {
  for (const std::size_t count : {0, 1, 2, 90, 97, 1000, 5000}) {
    for (const int num_bits : {1, 3, 11, 12, 22, 31, 33}) {
      for (const int low_bit : {31, 20}) {
        std::vector<std::uint64_t> keys;
        const std::uint64_t offset = random_bits(7, count) >> (64 - num_bits);
        for (std::size_t i = 0; i < count; ++i) {
          keys.push_back(((random_bits(count, i) >> (64 - num_bits)) + offset) / 2 << low_bit | i);
        }
        auto expected = keys;
        std::ranges::stable_sort(expected, {}, [&](std::uint64_t key) { return key >> low_bit; });
        std::vector<std::uint64_t> scratch(count + 17, ~std::uint64_t{0});  // longer than needed
        sort_keys(keys, scratch, low_bit);
        CHECK(keys == expected);
      }
    }
  }
}
