#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <tuple>
#include <vector>

#include "base/error.h"
#include "kernels/cuda/shared_item.h"
#include "kernels/planned_attention.h"

using namespace blendserve;
using namespace blendserve::cuda;

namespace {

constexpr std::uint64_t kNumSeeds = 300;

template <typename Check>
void for_each_random_plan(Check check) {
  for (std::uint64_t seed = 0; seed < kNumSeeds; ++seed) {
    INFO("seed " << seed);
    check(PlannedAttention(random_attention_case(seed, 700)));
  }
}

std::int64_t num_rounds(const PlannedAttention& plan, const AttentionItem& item) {
  const std::int32_t tokens = round_tokens(plan.shape().head_dim);
  return (item.kv_end - item.kv_begin + tokens - 1) / tokens;
}

}  // namespace

TEST_CASE("every position that a query row sees is computed for it exactly once") {
  for_each_random_plan([](const PlannedAttention& plan) {
    const AttentionCase& shape = plan.shape();
    for (std::size_t s = 0; s < shape.chunks.size(); ++s) {
      const SequenceChunk& chunk = shape.chunks[s];
      const std::int32_t num_rows = chunk.qo_len * shape.group;
      for (std::int32_t kv_head = 0; kv_head < shape.num_kv_heads; ++kv_head) {
        std::vector<std::int64_t> num_seen(static_cast<std::size_t>(num_rows));
        std::vector<std::int32_t> up_to(static_cast<std::size_t>(num_rows), -1);
        for (const AttentionItem& item : plan.items()) {
          if (item.first_token != plan.first_token(s) || item.kv_head != kv_head) {
            continue;
          }
          REQUIRE(item.first_block == plan.first_block(s));
          REQUIRE(item.num_before == chunk.num_before);
          REQUIRE(item.num_rows >= 1);
          REQUIRE(item.num_rows <= kTileRows);
          REQUIRE(item.first_row + item.num_rows <= num_rows);
          for (std::int32_t row = item.first_row; row < item.first_row + item.num_rows; ++row) {
            const std::int32_t position = chunk.num_before + row / shape.group;
            const std::int32_t first = shape.window == 0 ? 0 : std::max(0, position - shape.window + 1);
            const std::int32_t begin = std::max(first, item.kv_begin);
            const std::int32_t end = std::min(position + 1, item.kv_end);
            auto& done = up_to[static_cast<std::size_t>(row)];
            REQUIRE(item.kv_begin >= done);  // ranges come in order, so none is counted twice
            done = item.kv_end;
            num_seen[static_cast<std::size_t>(row)] += std::max(0, end - begin);
          }
        }
        for (std::int32_t row = 0; row < num_rows; ++row) {
          const std::int32_t position = chunk.num_before + row / shape.group;
          const std::int32_t visible = shape.window == 0 ? position + 1 : std::min(position + 1, shape.window);
          CHECK(num_seen[static_cast<std::size_t>(row)] == visible);
        }
      }
    }
  });
}

TEST_CASE("a tile reads no position that none of its rows sees") {
  for_each_random_plan([](const PlannedAttention& plan) {
    const AttentionCase& shape = plan.shape();
    for (const AttentionItem& item : plan.items()) {
      const std::int32_t first = item.num_before + item.first_row / shape.group;
      const std::int32_t last = item.num_before + (item.first_row + item.num_rows - 1) / shape.group;
      CHECK(item.kv_begin < item.kv_end);
      CHECK(item.kv_end <= last + 1);
      CHECK(item.kv_begin >= (shape.window == 0 ? 0 : std::max(0, first - shape.window + 1)));
    }
  });
}

TEST_CASE("a tile in parts has rows of the workspace for each, in order, and one merge") {
  for_each_random_plan([](const PlannedAttention& plan) {
    std::map<std::tuple<std::int32_t, std::int32_t, std::int32_t>, std::vector<AttentionItem>> parts_of;
    for (const AttentionItem& item : plan.items()) {
      parts_of[{item.first_token, item.kv_head, item.first_row}].push_back(item);
    }
    std::int32_t next_row = 0;
    std::size_t num_merges = 0;
    for (const AttentionMerge& merge : plan.merges()) {
      const auto& parts = parts_of.at({merge.first_token, merge.kv_head, merge.first_row});
      REQUIRE(merge.num_parts == static_cast<std::int32_t>(parts.size()));
      REQUIRE(merge.partial == next_row);
      for (const AttentionItem& part : parts) {
        CHECK(part.partial == next_row);
        CHECK(part.num_rows == merge.num_rows);
        next_row += part.num_rows;
      }
    }
    for (const auto& [tile, parts] : parts_of) {
      num_merges += parts.size() > 1 ? 1 : 0;
      CHECK((parts.size() > 1) == (parts.front().partial != kNoPartialRow));
    }
    CHECK(plan.merges().size() == num_merges);
    CHECK(next_row <= max_partial_rows(plan.shape().num_ctas));
  });
}

TEST_CASE("CTAs differ by less than two rounds in cost") {
  for_each_random_plan([](const PlannedAttention& plan) {
    std::vector<std::int64_t> costs;
    std::int64_t most = 0;  // of a round
    const std::int32_t* indptr = plan.view().cta_indptr();
    REQUIRE(indptr[0] == 0);
    for (std::int32_t cta = 0; cta < plan.shape().num_ctas; ++cta) {
      std::int64_t cost = 0;
      for (std::int32_t i = indptr[cta]; i < indptr[cta + 1]; ++i) {
        const AttentionItem& item = plan.items()[static_cast<std::size_t>(i)];
        const std::int64_t round = std::max(4, WarpGrid(item.num_rows).num_slices);
        most = std::max(most, round);
        cost += round * num_rounds(plan, item);
      }
      costs.push_back(cost);
    }
    REQUIRE(indptr[plan.shape().num_ctas] == static_cast<std::int32_t>(plan.items().size()));
    const auto [least, greatest] = std::minmax_element(costs.begin(), costs.end());
    CHECK(*greatest - *least < 2 * most);
  });
}

TEST_CASE("an attention plan fits the bytes that are asked for, and an empty step has one") {
  for_each_random_plan(
      [](const PlannedAttention& plan) { CHECK(plan.used_bytes() <= attention_plan_bytes(plan.batch())); });
  const PlannedAttention empty({.num_ctas = 3});
  CHECK(empty.items().empty());
  CHECK(empty.merges().empty());
  CHECK(empty.view().cta_indptr()[3] == 0);
}

TEST_CASE("a malformed attention batch is refused with the value") {
  const std::vector<std::int32_t> zero{0}, one{1}, two{2}, three{3};
  const AttentionBatch good{.first_tokens = zero,
                            .qo_lens = two,
                            .kv_lens = three,
                            .first_blocks = zero,
                            .num_kv_heads = 1,
                            .head_dim = 64,
                            .num_ctas = 1};
  std::vector<std::max_align_t> memory(1000);
  const auto plan = std::as_writable_bytes(std::span(memory));
  REQUIRE(plan_attention(good, plan) > 0);
  const auto refused = [&](auto change, const char* message) {
    AttentionBatch batch = good;
    change(batch);
    CHECK_THROWS_WITH(plan_attention(batch, plan), Catch::Matchers::Contains(message));
  };
  refused([&](AttentionBatch& batch) { batch.kv_lens = one; }, "2 query tokens from 0 on, 1 positions");
  refused([&](AttentionBatch& batch) { batch.qo_lens = zero; }, "sequence 0 has 0 query tokens");
  refused([&](AttentionBatch& batch) { batch.kv_lens = {}; }, "have 1, 1, 0 and 1 entries");
  refused([&](AttentionBatch& batch) { batch.num_ctas = 0; }, "num_ctas 0");
  refused([&](AttentionBatch& batch) { batch.window = -1; }, "window -1");
  refused([&](AttentionBatch& batch) { batch.group = 1 << 30; }, "compute shorter chunks");
  CHECK_THROWS_WITH(plan_attention(good, plan.first(64)), Catch::Matchers::Contains("the plan buffer has 64 bytes"));
}
