#include "request/workload.h"

#include <catch2/catch.hpp>

#include "base/error.h"
#include "request/token_view.h"

using namespace blendserve;
using Catch::Matchers::Contains;

TEST_CASE("a workload reads prompts from one flat buffer") {
  const auto workload = Workload::from_prompts({{1, 2}, {}, {3}});
  REQUIRE(workload.size() == 3);
  CHECK(workload.prompt(0).size() == 2);
  CHECK(workload.prompt(1).empty());
  CHECK(workload.prompt(2)[0] == 3);
}

TEST_CASE("bad offsets are named") {
  const std::vector<Token> tokens{1, 2, 3};
  const auto build = [&](const std::vector<std::int64_t>& offsets) { return Workload(tokens, offsets, nullptr); };
  CHECK_THROWS_WITH(build({}), Contains("offsets is empty"));
  CHECK_THROWS_WITH(build({-1, 2}), Contains("offsets[0] is -1"));
  CHECK_THROWS_WITH(build({0, 2, 1}), Contains("offsets[2] is 1"));
  CHECK_THROWS_WITH(build({0, 4}), Contains("last offset is 4") && Contains("3 tokens"));
}

TEST_CASE("a token view copies across the border of prompt and output") {
  const std::vector<Token> prompt{1, 2, 3};
  const std::vector<Token> output{4, 5, 6};
  const TokenView view(prompt, output);
  REQUIRE(view.size() == 6);
  for (std::int32_t begin = 0; begin <= 6; ++begin) {
    for (std::int32_t end = begin; end <= 6; ++end) {
      std::vector<Token> copied(static_cast<std::size_t>(end - begin));
      view.copy(begin, copied);
      for (std::int32_t i = begin; i < end; ++i) CHECK(copied[static_cast<std::size_t>(i - begin)] == i + 1);
    }
  }
}

TEST_CASE("a slice of a token view is copied only where it lies in two pieces") {
  const std::vector<Token> prompt{1, 2, 3};
  const std::vector<Token> output{4, 5, 6};
  const TokenView view(prompt, output);
  std::vector<Token> scratch(2);
  const auto slice = [&](std::int32_t begin) { return view.slice(begin, scratch); };
  CHECK(slice(1).data() == prompt.data() + 1);
  CHECK(slice(4).data() == output.data() + 1);
  CHECK(slice(2).data() == scratch.data());
  CHECK(scratch == std::vector<Token>{3, 4});
}
