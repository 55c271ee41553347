#include "base/index_set.h"

#include <catch2/catch.hpp>
#include <iterator>
#include <random>
#include <set>

using namespace blendserve;

namespace {

void check_neighbours(const IndexSet& set, const std::set<std::int32_t>& members, std::int32_t index) {
  const auto next = members.upper_bound(index);
  REQUIRE(set.next(index) == (next == members.end() ? IndexSet::kNone : *next));
  const auto end = members.lower_bound(index);
  REQUIRE(set.previous(index) == (end == members.begin() ? IndexSet::kNone : *std::prev(end)));
  REQUIRE(set.contains(index) == members.contains(index));
}

}  // namespace

TEST_CASE("an index set finds the neighbours that a sorted set finds") {
  std::mt19937 rng(7);
  for (const std::int32_t size : {1, 2, 63, 64, 65, 4096, 4097, 300000}) {
    IndexSet set(size);
    std::set<std::int32_t> members;
    std::uniform_int_distribution<std::int32_t> any(0, size - 1);
    for (int round = 0; round < 400; ++round) {
      const std::int32_t index = any(rng);
      if (round % 3 == 0 && !members.empty()) {
        const std::int32_t gone = *members.begin();
        set.erase(gone);
        members.erase(gone);
      } else {
        set.insert(index);
        members.insert(index);
      }
      for (const std::int32_t probe : {0, size - 1, index, any(rng)}) check_neighbours(set, members, probe);
    }
  }
}

TEST_CASE("an index set that is empty or has no room has no members") {
  CHECK(IndexSet(10).next(3) == IndexSet::kNone);
  CHECK(IndexSet(10).previous(3) == IndexSet::kNone);
  CHECK(IndexSet(0).next(0) == IndexSet::kNone);
}
