#include "kernels/cuda/append_work.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

using namespace blendserve;
using namespace blendserve::cuda;

TEST_CASE("the parts of a token cover every element of its queries, keys and values once") {
  for (const AppendWork work :
       {AppendWork{0, 1, 16}, AppendWork{4, 1, 64}, AppendWork{7, 3, 80}, AppendWork{32, 8, 128}}) {
    std::vector<int> counts[3] = {std::vector<int>(static_cast<std::size_t>(work.num_query_heads * work.head_dim)),
                                  std::vector<int>(static_cast<std::size_t>(work.num_kv_heads * work.head_dim)),
                                  std::vector<int>(static_cast<std::size_t>(work.num_kv_heads * work.head_dim))};
    for (std::int32_t at = 0; at < work.parts_of_token(); ++at) {
      const HeadPart part = work.part(at);
      REQUIRE(part.element % kAppendElements == 0);
      for (std::int32_t i = 0; i < kAppendElements; ++i) {
        for (const std::int32_t half : {0, work.head_dim / 2}) {
          const std::int32_t element = part.head * work.head_dim + part.element + half + i;
          ++counts[static_cast<int>(part.kind)].at(static_cast<std::size_t>(element));
        }
      }
    }
    for (const auto& of_kind : counts) {
      for (const int count : of_kind) {
        REQUIRE(count == 1);
      }
    }
  }
}

TEST_CASE("a part goes to its place in the paged cache") {
  const KvLayout layout{.num_blocks = 9, .num_kv_heads = 3, .block_size = 4, .head_dim = 32};
  // [num_blocks, 2, num_kv_heads, block_size, head_dim], written out
  const auto element = [](std::int64_t block, std::int64_t side, std::int64_t head, std::int64_t row, std::int64_t d) {
    return (((block * 2 + side) * 3 + head) * 4 + row) * 32 + d;
  };
  CHECK(cache_offset(layout, 4 * 7 + 2, {HeadKind::kKey, 1, 8}) == element(7, 0, 1, 2, 8));
  CHECK(cache_offset(layout, 4 * 5 + 3, {HeadKind::kValue, 2, 0}) == element(5, 1, 2, 3, 0));
  CHECK(cache_offset(layout, 0, {HeadKind::kKey, 0, 0}) == 0);
}

TEST_CASE("an element and the one half a head away turn by the position's angle") {
  const auto exact = [](float x) { return x; };
  const double angle = 0.7;
  const auto cos = static_cast<float>(std::cos(angle));
  const auto sin = static_cast<float>(std::sin(angle));
  const float x = 0.6F;
  const float y = -1.25F;
  CHECK(rotated(x, y, cos, -sin, exact) == Approx(0.6 * std::cos(angle) + 1.25 * std::sin(angle)));
  CHECK(rotated(y, x, cos, sin, exact) == Approx(-1.25 * std::cos(angle) + 0.6 * std::sin(angle)));
}

TEST_CASE("the product with the cosine and the sum are rounded to the head's type") {
  const auto to_quarters = [](float x) { return std::round(x * 4.0F) / 4.0F; };
  CHECK(rotated(1.0F, 1.0F, 0.4F, 0.15F, to_quarters) == 0.75F);  // 0.5 + 0.15, and not 0.55, to a quarter
}
