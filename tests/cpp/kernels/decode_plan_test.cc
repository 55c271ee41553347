#include "kernels/cuda/decode_plan.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <vector>

#include "base/error.h"
#include "base/rng.h"
#include "kernels/cuda/softmax_state.h"

using namespace blendserve;
using namespace blendserve::cuda;

namespace {

// A plan in host memory with the batch it was made for.
struct Planned {
  std::vector<std::int32_t> kv_lens;
  std::vector<std::int32_t> block_indptr;
  std::int32_t num_kv_heads;
  std::int32_t num_ctas;
  std::vector<std::max_align_t> memory;
  std::int64_t used_bytes;

  Planned(std::vector<std::int32_t> lens, std::int32_t kv_heads, std::int32_t ctas)
      : kv_lens(std::move(lens)), block_indptr(kv_lens.size() + 1), num_kv_heads(kv_heads), num_ctas(ctas) {
    std::iota(block_indptr.begin(), block_indptr.end(), 100);
    const auto bytes =
        static_cast<std::size_t>(decode_plan_bytes(static_cast<std::int32_t>(kv_lens.size()), num_kv_heads, num_ctas));
    memory.resize(bytes / sizeof(std::max_align_t) + 1);
    used_bytes =
        plan_decode({kv_lens, block_indptr, num_kv_heads, num_ctas}, std::as_writable_bytes(std::span(memory)));
  }

  DecodePlanView view() const { return {memory.data(), num_ctas}; }
  std::span<const DecodeItem> items() const {
    return {view().items(), static_cast<std::size_t>(view().header().num_items)};
  }
  std::span<const DecodeItem> items_of(std::int32_t cta) const {
    const auto begin = static_cast<std::size_t>(view().cta_indptr()[cta]);
    return items().subspan(begin, static_cast<std::size_t>(view().cta_indptr()[cta + 1]) - begin);
  }
  std::span<const DecodeMerge> merges() const {
    return {view().merges(), static_cast<std::size_t>(view().header().num_merges)};
  }
};

std::int64_t tiles_of(std::span<const DecodeItem> items) {
  std::int64_t tiles = 0;
  for (const DecodeItem& item : items) {
    tiles += (item.kv_end - item.kv_begin + kDecodeTileTokens - 1) / kDecodeTileTokens;
  }
  return tiles;
}

Planned random_plan(std::uint64_t seed) {
  std::uint64_t draw = 0;
  const auto below = [&](std::uint64_t n) { return static_cast<std::int32_t>(random_bits(seed, draw++) % n); };
  std::vector<std::int32_t> kv_lens(static_cast<std::size_t>(below(40)));
  const std::uint64_t longest = std::uint64_t{1} << below(12);
  std::generate(kv_lens.begin(), kv_lens.end(), [&] { return 1 + below(longest); });
  return {std::move(kv_lens), 1 + below(8), 1 + below(140)};
}

constexpr std::uint64_t kNumRandomPlans = 300;

}  // namespace

TEST_CASE("a plan covers every KV token of every row and head exactly once") {
  for (std::uint64_t seed = 0; seed < kNumRandomPlans; ++seed) {
    const Planned plan = random_plan(seed);
    std::vector<std::vector<int>> covered;
    for (const std::int32_t kv_len : plan.kv_lens) {
      for (std::int32_t head = 0; head < plan.num_kv_heads; ++head) {
        covered.emplace_back(static_cast<std::size_t>(kv_len), 0);
      }
    }
    for (const DecodeItem& item : plan.items()) {
      REQUIRE(item.kv_begin % kDecodeTileTokens == 0);
      REQUIRE(item.kv_begin < item.kv_end);
      REQUIRE(item.first_block == plan.block_indptr[static_cast<std::size_t>(item.row)]);
      auto& pair = covered[static_cast<std::size_t>(item.row * plan.num_kv_heads + item.kv_head)];
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
    const Planned plan = random_plan(seed);
    const std::int64_t total = tiles_of(plan.items());
    REQUIRE(plan.view().cta_indptr()[0] == 0);
    REQUIRE(plan.view().cta_indptr()[plan.num_ctas] == plan.view().header().num_items);
    for (std::int32_t cta = 0; cta < plan.num_ctas; ++cta) {
      const std::int64_t tiles = tiles_of(plan.items_of(cta));
      REQUIRE(tiles >= total / plan.num_ctas);
      REQUIRE(tiles <= (total + plan.num_ctas - 1) / plan.num_ctas);
    }
  }
}

TEST_CASE("each split pair is merged once, from all its parts in order of position, within the partial slots") {
  for (std::uint64_t seed = 0; seed < kNumRandomPlans; ++seed) {
    const Planned plan = random_plan(seed);
    std::vector<const DecodeItem*> part_of_slot;
    for (const DecodeItem& item : plan.items()) {
      const bool whole = item.kv_begin == 0 && item.kv_end == plan.kv_lens[static_cast<std::size_t>(item.row)];
      REQUIRE((item.partial == kNoPartial) == whole);
      if (!whole) {
        REQUIRE(item.partial == static_cast<std::int32_t>(part_of_slot.size()));
        part_of_slot.push_back(&item);
      }
    }
    REQUIRE(static_cast<std::int64_t>(part_of_slot.size()) == plan.view().header().num_partials);
    REQUIRE(static_cast<std::int64_t>(part_of_slot.size()) <= max_decode_partials(plan.num_ctas));
    REQUIRE(plan.view().header().num_merges <= plan.num_ctas);
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
      REQUIRE(position == plan.kv_lens[static_cast<std::size_t>(merge.row)]);
    }
    REQUIRE(slot == part_of_slot.size());
  }
}

TEST_CASE("two rows of 48 and 16 tokens on three CTAs: the cut falls inside the first row") {
  const Planned plan({48, 16}, 1, 3);
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
  const Planned plan({}, 8, 132);
  CHECK(plan.view().header().num_items == 0);
  CHECK(plan.view().header().num_merges == 0);
  CHECK(plan.view().cta_indptr()[132] == 0);
}

TEST_CASE("plan_decode names what is wrong with a batch or a buffer") {
  std::vector<std::max_align_t> memory(1024);
  const auto buffer = std::as_writable_bytes(std::span(memory));
  const std::vector<std::int32_t> kv_lens{5, 0};
  const std::vector<std::int32_t> indptr{0, 1, 1};
  CHECK_THROWS_WITH(plan_decode({kv_lens, indptr, 1, 4}, buffer), Catch::Contains("kv_lens[1] is 0"));
  CHECK_THROWS_WITH(plan_decode({kv_lens, indptr, 1, 0}, buffer), Catch::Contains("num_ctas is 0"));
  CHECK_THROWS_AS(plan_decode({kv_lens, std::span(indptr).first(1), 1, 4}, buffer), InvalidInput);
  const std::vector<std::int32_t> ones{1, 1};
  CHECK_THROWS_WITH(plan_decode({ones, indptr, 1, 4}, buffer.first(64)),
                    Catch::Contains("the plan buffer has 64 bytes"));
}

TEST_CASE("executing a plan with the shared softmax code equals attention computed at once in double") {
  constexpr std::int32_t kHeadDim = 4;
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    const Planned plan = random_plan(seed);
    const auto key = [](const DecodeItem& item, std::int32_t token) {
      return (static_cast<std::uint64_t>(item.row) << 40U) | (static_cast<std::uint64_t>(item.kv_head) << 32U) |
             static_cast<std::uint64_t>(token);
    };
    const auto score = [&](const DecodeItem& item, std::int32_t token) {
      return static_cast<float>(40 * random_uniform(seed, key(item, token)) - 20);
    };
    const auto value = [&](const DecodeItem& item, std::int32_t token, std::int32_t d) {
      return static_cast<float>(random_uniform(seed + 1000 + static_cast<std::uint64_t>(d), key(item, token)) - 0.5);
    };
    const auto num_slots = static_cast<std::size_t>(plan.view().header().num_partials);
    std::vector<SoftmaxState> states(num_slots);
    std::vector<float> outputs(num_slots * kHeadDim);

    for (const DecodeItem& item : plan.items()) {
      if (item.partial == kNoPartial) {
        continue;
      }
      SoftmaxState state;
      std::vector<float> output(kHeadDim, 0.0F);
      for (std::int32_t token = item.kv_begin; token < item.kv_end; ++token) {
        const SoftmaxState one{score(item, token), 1.0F};
        const SoftmaxState both = softmax_union(state, one);
        for (std::int32_t d = 0; d < kHeadDim; ++d) {
          auto& o = output[static_cast<std::size_t>(d)];
          o = o * softmax_weight(state, both.max) + value(item, token, d) * softmax_weight(one, both.max);
        }
        state = both;
      }
      states[static_cast<std::size_t>(item.partial)] = state;
      std::copy(output.begin(), output.end(), outputs.begin() + std::ptrdiff_t{item.partial} * kHeadDim);
    }

    for (const DecodeMerge& merge : plan.merges()) {
      const PartialRows parts{states.data() + merge.partial_begin,
                              outputs.data() + std::ptrdiff_t{merge.partial_begin} * kHeadDim,
                              merge.partial_end - merge.partial_begin, 1, kHeadDim};
      const SoftmaxState merged = parts.merged_state();
      const DecodeItem whole{merge.row, merge.kv_head, 0, plan.kv_lens[static_cast<std::size_t>(merge.row)], 0, 0, {}};
      for (std::int32_t d = 0; d < kHeadDim; ++d) {
        double sum = 0;
        double weighted = 0;
        for (std::int32_t token = 0; token < whole.kv_end; ++token) {
          const double weight = std::exp2(static_cast<double>(score(whole, token)));
          sum += weight;
          weighted += weight * static_cast<double>(value(whole, token, d));
        }
        REQUIRE(static_cast<double>(parts.merged_output(merged, d)) == Approx(weighted / sum).margin(1e-5));
      }
    }
  }
}
