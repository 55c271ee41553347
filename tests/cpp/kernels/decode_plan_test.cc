#include "kernels/cuda/decode_plan.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstddef>
#include <string>
#include <vector>

#include "base/error.h"
#include "kernels/planned_decode.h"

using namespace blendserve;
using namespace blendserve::cuda;

namespace {

std::int64_t tiles_of(std::span<const DecodeItem> items) {
  std::int64_t tiles = 0;
  for (const DecodeItem& item : items) {
    tiles += (item.kv_end - item.kv_begin + kDecodeTileTokens - 1) / kDecodeTileTokens;
  }
  return tiles;
}

PlannedDecode random_plan(std::uint64_t seed) {
  Draws draw(seed);
  std::vector<std::int32_t> kv_lens(static_cast<std::size_t>(draw.below(40)));
  const std::int64_t longest = std::int64_t{1} << draw.below(12);
  std::generate(kv_lens.begin(), kv_lens.end(), [&] { return 1 + draw.below(longest); });
  const std::int32_t num_kv_heads = 1 + draw.below(8);
  return PlannedDecode(separate_rows(std::move(kv_lens), num_kv_heads, 1 + draw.below(140)));
}

constexpr std::uint64_t kNumRandomPlans = 300;

}  // namespace

TEST_CASE("a plan covers every KV token of every row and head exactly once") {
  for (std::uint64_t seed = 0; seed < kNumRandomPlans; ++seed) {
    const PlannedDecode plan = random_plan(seed);
    std::vector<std::vector<int>> covered;
    for (const std::int32_t kv_len : plan.rows().kv_lens) {
      for (std::int32_t head = 0; head < plan.rows().num_kv_heads; ++head) {
        covered.emplace_back(static_cast<std::size_t>(kv_len), 0);
      }
    }
    for (const DecodeItem& item : plan.items()) {
      REQUIRE(item.kv_begin % kDecodeTileTokens == 0);
      REQUIRE(item.kv_begin < item.kv_end);
      REQUIRE(item.first_block == plan.batch().block_indptr[static_cast<std::size_t>(item.row)]);
      auto& pair = covered[static_cast<std::size_t>(item.row * plan.rows().num_kv_heads + item.kv_head)];
      for (std::int32_t token = item.kv_begin; token < item.kv_end; ++token) {
        ++pair.at(static_cast<std::size_t>(token));
      }
    }
    for (const auto& pair : covered) {
      REQUIRE(std::all_of(pair.begin(), pair.end(), [](int count) { return count == 1; }));
    }
  }
}

TEST_CASE("the CTAs of a plan differ by one tile at most and share the items in order") {
  for (std::uint64_t seed = 0; seed < kNumRandomPlans; ++seed) {
    const PlannedDecode plan = random_plan(seed);
    const std::int64_t total = tiles_of(plan.items());
    REQUIRE(plan.view().cta_indptr()[0] == 0);
    REQUIRE(plan.view().cta_indptr()[plan.rows().num_ctas] == plan.header().num_items);
    for (std::int32_t cta = 0; cta < plan.rows().num_ctas; ++cta) {
      const std::int64_t tiles = tiles_of(plan.items_of(cta));
      REQUIRE(tiles >= total / plan.rows().num_ctas);
      REQUIRE(tiles <= (total + plan.rows().num_ctas - 1) / plan.rows().num_ctas);
    }
  }
}

TEST_CASE("each split pair is merged once, from all its parts in order of position, within the partial slots") {
  for (std::uint64_t seed = 0; seed < kNumRandomPlans; ++seed) {
    const PlannedDecode plan = random_plan(seed);
    std::vector<const DecodeItem*> part_of_slot;
    for (const DecodeItem& item : plan.items()) {
      const bool whole = item.kv_begin == 0 && item.kv_end == plan.rows().kv_lens[static_cast<std::size_t>(item.row)];
      REQUIRE((item.partial == kNoPartial) == whole);
      if (!whole) {
        REQUIRE(item.partial == static_cast<std::int32_t>(part_of_slot.size()));
        part_of_slot.push_back(&item);
      }
    }
    REQUIRE(static_cast<std::int64_t>(part_of_slot.size()) == plan.header().num_partials);
    REQUIRE(static_cast<std::int64_t>(part_of_slot.size()) <= min_decode_partials(plan.rows().num_ctas));
    REQUIRE(plan.header().num_merges <= plan.rows().num_ctas);
    std::size_t slot = 0;
    for (const DecodeMerge& merge : plan.merges()) {
      REQUIRE(merge.partial_begin == static_cast<std::int32_t>(slot));
      std::int32_t position = 0;
      for (; slot < static_cast<std::size_t>(merge.partial_end); ++slot) {
        REQUIRE(part_of_slot[slot]->row == merge.row);
        REQUIRE(part_of_slot[slot]->kv_head == merge.kv_head);
        REQUIRE(part_of_slot[slot]->kv_begin == position);
        position = part_of_slot[slot]->kv_end;
      }
      REQUIRE(position == plan.rows().kv_lens[static_cast<std::size_t>(merge.row)]);
    }
    REQUIRE(slot == part_of_slot.size());
  }
}

TEST_CASE("two rows of 48 and 16 tokens on three CTAs: the cut falls inside the first row") {
  const PlannedDecode plan(separate_rows({48, 16}, 1, 3));
  // Four tiles: CTAs get 1, 1 and 2.
  REQUIRE(plan.items().size() == 4);
  CHECK(plan.items_of(0).size() == 1);
  CHECK(plan.items_of(1).size() == 1);
  CHECK(plan.items_of(2).size() == 2);
  CHECK(plan.items()[1].kv_begin == 16);
  CHECK(plan.items()[1].kv_end == 32);
  CHECK(plan.items()[1].partial == 1);
  CHECK(plan.items()[3].row == 1);
  CHECK(plan.items()[3].partial == kNoPartial);
  REQUIRE(plan.merges().size() == 1);
  CHECK(plan.merges()[0].partial_begin == 0);
  CHECK(plan.merges()[0].partial_end == 3);
}

TEST_CASE("an empty batch gives every CTA nothing to do") {
  const PlannedDecode plan(separate_rows({}, 8, 132));
  CHECK(plan.header().num_items == 0);
  CHECK(plan.header().num_merges == 0);
  CHECK(plan.view().cta_indptr()[132] == 0);
}

TEST_CASE("plan_decode names what is wrong with a batch or a buffer") {
  std::vector<std::max_align_t> memory(1024);
  const auto buffer = std::as_writable_bytes(std::span(memory));
  const std::vector<std::int32_t> ones{1, 1};
  const std::vector<std::int32_t> indptr{0, 1, 2};
  const std::vector<std::int32_t> table{7, 8};
  const DecodeBatch good{.kv_lens = ones,
                         .block_indptr = indptr,
                         .block_table = table,
                         .num_kv_heads = 1,
                         .group = 1,
                         .head_dim = 64,
                         .block_size = 16,
                         .num_ctas = 4,
                         .max_partials = 8};
  const auto refusal = [&](auto change, std::span<std::byte> plan) {
    DecodeBatch batch = good;
    change(batch);
    try {
      plan_decode(batch, plan);
    } catch (const InvalidInput& error) {
      return std::string(error.what());
    }
    return std::string("none");
  };
  using Catch::Contains;
  const std::vector<std::int32_t> zero{5, 0};
  CHECK(refusal([](DecodeBatch&) {}, buffer) == "none");
  CHECK_THAT(refusal([&](DecodeBatch& b) { b.kv_lens = zero; }, buffer), Contains("kv_lens[1] is 0"));
  CHECK_THAT(refusal([](DecodeBatch& b) { b.num_ctas = 0; }, buffer), Contains("num_ctas is 0"));
  CHECK_THAT(refusal([](DecodeBatch& b) { b.max_partials = 7; }, buffer), Contains("max_partials is 7"));
  CHECK_THAT(refusal([](DecodeBatch& b) { b.block_size = 0; }, buffer), Contains("block_size 0"));
  CHECK_THAT(refusal([](DecodeBatch& b) { b.kv_element_bytes = 4; }, buffer), Contains("kv_element_bytes is 4"));
  CHECK_THAT(refusal([&](DecodeBatch& b) { b.block_indptr = std::span(indptr).first(2); }, buffer),
             Contains("block_indptr has 2 entries for 2 rows"));
  CHECK_THAT(refusal([&](DecodeBatch& b) { b.block_table = std::span(table).first(1); }, buffer),
             Contains("row 1 has blocks 1 to 2 of a block table with 1 entries"));
  CHECK_THAT(refusal([](DecodeBatch&) {}, buffer.first(64)), Contains("the plan buffer has 64 bytes"));
}
