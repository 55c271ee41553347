#include "base/token_match.h"

#include <catch2/catch.hpp>
#include <vector>

using namespace blendserve;

TEST_CASE("a common prefix ends at the first difference or at the end of the shorter one, at every length") {
  for (std::size_t size = 0; size < 70; ++size) {
    const std::vector<Token> tokens(size, 3);
    CHECK(common_prefix_len(tokens, tokens) == static_cast<std::int64_t>(size));
    std::vector<Token> longer = tokens;
    longer.resize(size + 40, 3);
    CHECK(common_prefix_len(tokens, longer) == static_cast<std::int64_t>(size));
    for (std::size_t at = 0; at < size; ++at) {
      auto other = tokens;
      other[at] = 4;
      CHECK(common_prefix_len(tokens, other) == static_cast<std::int64_t>(at));
      CHECK(common_prefix_len(other, longer) == static_cast<std::int64_t>(at));
    }
  }
}
