#include "kernels/cuda/shared_plan.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>

#include "kernels/cuda/shared_item.h"
#include "kernels/cuda/shared_runs.h"
#include "kernels/planned_decode.h"

using namespace blendserve;
using namespace blendserve::cuda;

namespace {

constexpr std::uint64_t kNumRandomPlans = 200;
constexpr std::int32_t kLongestRun = 3000;

std::vector<std::int32_t> consecutive(std::int32_t begin, std::int32_t end) {
  std::vector<std::int32_t> blocks(static_cast<std::size_t>(end - begin));
  std::iota(blocks.begin(), blocks.end(), begin);
  return blocks;
}

// Adds `num_rows` rows that go on after `prefix` with blocks of their own, to `kv_len` positions.
void add_rows(DecodeRows& rows, const std::vector<std::int32_t>& prefix, std::int32_t num_rows, std::int32_t kv_len) {
  const std::int32_t num_blocks = (kv_len + rows.block_size - 1) / rows.block_size;
  for (std::int32_t i = 0; i < num_rows; ++i) {
    auto table = prefix;
    const std::int32_t own = 100'000 * (rows.num_rows() + 1);
    const auto own_blocks = consecutive(own, own + num_blocks - static_cast<std::int32_t>(prefix.size()));
    table.insert(table.end(), own_blocks.begin(), own_blocks.end());
    rows.tables.push_back(std::move(table));
    rows.kv_lens.push_back(kv_len);
  }
}

struct RunSummary {
  std::int32_t num_rows;
  std::int32_t kv_begin;
  std::int32_t kv_end;
  bool operator==(const RunSummary&) const = default;
};

std::vector<RunSummary> runs_of(const DecodeRows& rows) {
  std::vector<RunSummary> summaries;
  const PlannedDecode plan(rows);
  for (const SharedRun& run : find_shared_runs(plan.batch()).runs) {
    summaries.push_back({run.num_rows(), run.kv_begin, run.kv_end});
  }
  return summaries;
}

std::int64_t cost(std::span<const SharedItem> items, std::int32_t group) {
  std::int64_t total = 0;
  for (const SharedItem& item : items) {
    const WarpGrid grid(item.num_members * group);
    const std::int32_t step = grid.step_tokens();
    total += std::int64_t{(item.kv_end - item.kv_begin + step - 1) / step} * grid.step_cost();
  }
  return total;
}

}  // namespace

TEST_CASE("every KV token of every row and head is read once, alone or with the rows that share its block") {
  std::size_t num_sharing = 0;
  for (std::uint64_t seed = 0; seed < kNumRandomPlans; ++seed) {
    const PlannedDecode plan(random_tree_rows(seed, kLongestRun));
    const DecodeRows& rows = plan.rows();
    std::vector<std::vector<int>> covered;
    for (const std::int32_t kv_len : rows.kv_lens) {
      covered.insert(covered.end(), static_cast<std::size_t>(rows.num_kv_heads),
                     std::vector<int>(static_cast<std::size_t>(kv_len), 0));
    }
    const auto cover = [&](std::int32_t row, std::int32_t kv_head, std::int32_t first_block, std::int32_t kv_begin,
                           std::int32_t kv_end) {
      REQUIRE(kv_begin < kv_end);
      auto& pair = covered[static_cast<std::size_t>(row * rows.num_kv_heads + kv_head)];
      bool own_block = true;
      for (std::int32_t token = kv_begin; token < kv_end; ++token) {
        const auto in_table = static_cast<std::size_t>(token / rows.block_size);
        own_block = own_block && plan.block_table().at(static_cast<std::size_t>(first_block) + in_table) ==
                                     rows.tables[static_cast<std::size_t>(row)].at(in_table);
        ++pair.at(static_cast<std::size_t>(token));
      }
      REQUIRE(own_block);
    };
    for (const DecodeItem& item : plan.items()) {
      cover(item.row, item.kv_head, item.first_block, item.kv_begin, item.kv_end);
    }
    for (const SharedItem& item : plan.shared_items()) {
      REQUIRE(item.num_members * rows.group <= kMaxSharedQueries);
      for (const SharedMember& member : plan.members_of(item)) {
        cover(member.row, item.kv_head, item.first_block, item.kv_begin, item.kv_end);
      }
    }
    for (const auto& pair : covered) {
      REQUIRE(std::all_of(pair.begin(), pair.end(), [](int count) { return count == 1; }));
    }
    num_sharing += plan.shared_items().empty() ? 0 : 1;
  }
  CHECK(num_sharing > kNumRandomPlans / 4);
  CHECK(num_sharing < kNumRandomPlans);
}

TEST_CASE("tiles of bulk copies lie within one page: ranges begin at multiples of 16 where pages do") {
  for (std::uint64_t seed = 0; seed < kNumRandomPlans; ++seed) {
    const PlannedDecode plan(random_tree_rows(seed, kLongestRun));
    if (plan.rows().block_size % kDecodeTileTokens != 0) {
      continue;
    }
    for (const DecodeItem& item : plan.items()) {
      REQUIRE(item.kv_begin % kDecodeTileTokens == 0);
    }
    for (const SharedItem& item : plan.shared_items()) {
      REQUIRE(item.kv_begin % kDecodeTileTokens == 0);
    }
  }
}

TEST_CASE("the CTAs of both kernels have equal work, up to a step, within 5 % where there is enough") {
  constexpr std::int64_t kLargestStep = 16;
  for (std::uint64_t seed = 0; seed < kNumRandomPlans; ++seed) {
    const PlannedDecode plan(random_tree_rows(seed, kLongestRun));
    const DecodeRows& rows = plan.rows();
    const double ideal =
        static_cast<double>(cost(plan.shared_items(), rows.group)) / static_cast<double>(rows.num_ctas);
    REQUIRE(plan.view().shared_cta_indptr()[0] == 0);
    REQUIRE(plan.view().shared_cta_indptr()[rows.num_ctas] == plan.header().num_shared_items);
    for (std::int32_t cta = 0; cta < rows.num_ctas; ++cta) {
      const auto of_cta = static_cast<double>(cost(plan.shared_items_of(cta), rows.group));
      REQUIRE(std::abs(of_cta - ideal) <= static_cast<double>(kLargestStep));
      if (ideal >= 20.0 * kLargestStep) {
        REQUIRE(of_cta <= 1.05 * ideal);
      }
    }
  }
}

TEST_CASE("merges take every partial result once, in order of position, within the workspace") {
  for (std::uint64_t seed = 0; seed < kNumRandomPlans; ++seed) {
    DecodeRows rows = random_tree_rows(seed, kLongestRun);
    if (seed % 2 == 1) {  // a workspace that takes some runs and not others
      rows.max_partials = min_decode_partials(rows.num_ctas) + rows.num_ctas * (kMaxSharedQueries / rows.group) +
                          Draws(seed + 1000).below(300);
    }
    const PlannedDecode plan(rows);
    REQUIRE(plan.header().num_partials <= rows.max_partials);
    REQUIRE(static_cast<std::int64_t>(plan.bytes().size()) <=
            decode_plan_bytes(rows.num_rows(), rows.num_kv_heads, rows.num_ctas, rows.max_partials));
    struct Part {
      std::int32_t row, kv_head, kv_begin, kv_end;
    };
    std::vector<Part> parts(static_cast<std::size_t>(plan.header().num_partials), Part{-1, 0, 0, 0});
    const auto put = [&](std::int32_t slot, Part part) {
      REQUIRE(parts.at(static_cast<std::size_t>(slot)).row == -1);
      parts[static_cast<std::size_t>(slot)] = part;
    };
    for (const DecodeItem& item : plan.items()) {
      if (item.partial == kNoPartial) {
        REQUIRE(item.kv_begin == 0);
        REQUIRE(item.kv_end == rows.kv_lens[static_cast<std::size_t>(item.row)]);
      } else {
        put(item.partial, {item.row, item.kv_head, item.kv_begin, item.kv_end});
      }
    }
    for (const SharedItem& item : plan.shared_items()) {
      for (const SharedMember& member : plan.members_of(item)) {
        put(member.partial, {member.row, item.kv_head, item.kv_begin, item.kv_end});
      }
    }
    std::size_t slot = 0;
    for (const DecodeMerge& merge : plan.merges()) {
      REQUIRE(merge.partial_begin == static_cast<std::int32_t>(slot));
      std::int32_t position = 0;
      for (; slot < static_cast<std::size_t>(merge.partial_end); ++slot) {
        REQUIRE(parts[slot].row == merge.row);
        REQUIRE(parts[slot].kv_head == merge.kv_head);
        REQUIRE(parts[slot].kv_begin == position);
        position = parts[slot].kv_end;
      }
      REQUIRE(position == rows.kv_lens[static_cast<std::size_t>(merge.row)]);
    }
    REQUIRE(slot == parts.size());
  }
}

TEST_CASE("runs follow the tree of prefixes, level by level") {
  DecodeRows rows{.num_kv_heads = 8, .group = 4, .num_ctas = 132};
  const auto root = consecutive(0, 64);
  auto left = root;
  left.insert(left.end(), {70, 71, 72, 73, 74, 75, 76, 77});
  add_rows(rows, left, 20, 1500);
  add_rows(rows, root, 10, 1100);
  add_rows(rows, {}, 5, 3000);
  CHECK(runs_of(rows) == std::vector<RunSummary>{{30, 0, 1024}, {20, 1024, 1152}});
}

TEST_CASE("a prefix too short to pay by itself is read with each of its continuations") {
  DecodeRows rows{.num_kv_heads = 8, .group = 4, .num_ctas = 132};
  add_rows(rows, consecutive(0, 65), 20, 1500);
  auto other = consecutive(1000, 1065);
  other[0] = 0;
  add_rows(rows, other, 20, 1500);
  CHECK(runs_of(rows) == std::vector<RunSummary>{{20, 0, 1040}, {20, 0, 1040}});
}

TEST_CASE("sharing is left alone where it saves less than partial results and one more kernel cost") {
  DecodeRows few{.num_kv_heads = 8, .group = 4, .num_ctas = 132};
  add_rows(few, consecutive(0, 1), 100, 2000);
  CHECK(runs_of(few).empty());

  DecodeRows small{.num_kv_heads = 1, .group = 4, .num_ctas = 132};
  add_rows(small, consecutive(0, 32), 4, 600);
  CHECK(runs_of(small).empty());
  small.num_kv_heads = 32;
  CHECK(runs_of(small) == std::vector<RunSummary>{{4, 0, 512}});

  small.num_kv_heads = 16;
  CHECK(runs_of(small) == std::vector<RunSummary>{{4, 0, 512}});
  small.kv_element_bytes = 1;  // half as many bytes are saved
  CHECK(runs_of(small).empty());
}

TEST_CASE("the block of a row's last position is its own, even when another row names it") {
  DecodeRows rows{.num_kv_heads = 8, .group = 4, .num_ctas = 132};
  for (int i = 0; i < 20; ++i) {
    rows.tables.push_back(consecutive(0, 100));
    rows.kv_lens.push_back(1600);
  }
  CHECK(runs_of(rows) == std::vector<RunSummary>{{20, 0, 1584}});
}

TEST_CASE("without sharing that pays, the plan is the one made without looking for it") {
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    DecodeRows rows = random_tree_rows(seed, 100);
    const PlannedDecode looked(rows);
    rows.may_share = false;
    const PlannedDecode not_looked(rows);
    REQUIRE(looked.header().num_shared_items == 0);
    REQUIRE(
        std::equal(looked.bytes().begin(), looked.bytes().end(), not_looked.bytes().begin(), not_looked.bytes().end()));
  }
}

TEST_CASE("the warps of a CTA divide the queries of an item into slices, and the tiles of a slice among them") {
  for (int num_queries = 1; num_queries <= kMaxSharedQueries; ++num_queries) {
    const WarpGrid grid(num_queries);
    REQUIRE(grid.num_slices * kSliceQueries >= num_queries);
    REQUIRE(grid.num_slices * grid.num_lanes == kDecodeWarps);
    REQUIRE((grid.num_slices == 1 || (grid.num_slices / 2) * kSliceQueries < num_queries));
    for (int warp = 0; warp < kDecodeWarps; ++warp) {
      REQUIRE(grid.slice(warp) * grid.num_lanes + grid.lane(warp) == warp);
      REQUIRE(warp % grid.num_lanes == grid.lane(warp));  // a warp waits for the tile that it copied itself
    }
  }
}
