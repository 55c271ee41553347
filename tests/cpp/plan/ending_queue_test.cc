#include "plan/ending_queue.h"

#include <catch2/catch.hpp>
#include <map>
#include <set>

#include "base/rng.h"

using namespace blendserve;

TEST_CASE("requests end at their step, near or far, and the next step at which one does is known") {
  constexpr std::int32_t kCount = 3000;
  EndingQueue queue(kCount);
  std::map<std::int64_t, std::set<std::int32_t>> expected;
  std::int64_t step = 0;
  for (std::int32_t request = 0; request < kCount || !expected.empty();) {
    for (int i = 0; i < 5 && request < kCount; ++i, ++request) {
      const auto bits = random_bits(1, static_cast<std::uint64_t>(request));
      const auto end = step + 1 + static_cast<std::int64_t>(bits % (bits % 3 == 0 ? 200'000 : 50));
      queue.push(end, request);
      expected[end].insert(request);
    }
    CHECK(queue.next_step(step + 10) == std::min(expected.begin()->first, step + 10));
    step = queue.next_step(step + 1'000'000);
    REQUIRE(step == expected.begin()->first);
    std::set<std::int32_t> ended;
    queue.pop_all(step, [&](std::int32_t each) { ended.insert(each); });
    CHECK(ended == expected.begin()->second);
    expected.erase(expected.begin());
  }
  CHECK(queue.size() == 0);
}
