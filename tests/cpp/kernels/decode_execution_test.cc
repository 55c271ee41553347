#include <catch2/catch.hpp>
#include <cmath>

#include "base/kv_layout.h"
#include "kernels/cuda/shared_item.h"
#include "kernels/cuda/softmax_state.h"
#include "kernels/planned_decode.h"

// Executes plans on the CPU as the kernels do, CTA by CTA and warp by warp, with the code that they share with the
// host, and compares with attention by the definition in double.
using namespace blendserve;
using namespace blendserve::cuda;

namespace {

constexpr std::int32_t kDim = 4;  // of the data; what the plan reckons with is larger

float random_float(std::uint64_t key, std::int64_t at) {
  return static_cast<float>(2 * random_uniform(key, static_cast<std::uint64_t>(at)) - 1);
}

// Queries and a paged cache. Keys and values depend on their place in the cache alone, as they do for rows that share
// it.
class PagedData {
 public:
  explicit PagedData(const DecodeRows& rows)
      : rows_(rows), layout_{1 << 20, rows.num_kv_heads, rows.block_size, kDim} {}

  float scale() const { return 3.0F; }
  float query(std::int32_t row, std::int32_t head, std::int32_t d) const {
    return random_float(1, (std::int64_t{row} * rows_.num_kv_heads * rows_.group + head) * kDim + d);
  }
  float key(const std::int32_t* blocks, std::int32_t token, std::int32_t kv_head, std::int32_t d) const {
    return random_float(2, layout_.k_offset(blocks[token / rows_.block_size], kv_head) + in_tile(token, d));
  }
  float value(const std::int32_t* blocks, std::int32_t token, std::int32_t kv_head, std::int32_t d) const {
    return random_float(2, layout_.v_offset(blocks[token / rows_.block_size], kv_head) + in_tile(token, d));
  }

 private:
  std::int64_t in_tile(std::int32_t token, std::int32_t d) const {
    return std::int64_t{token % rows_.block_size} * kDim + d;
  }

  const DecodeRows& rows_;
  KvLayout layout_;
};

// One query's running softmax over the tiles of one warp.
struct WarpQuery {
  SoftmaxState state;
  float output[kDim] = {};

  void add_tile(const PagedData& data, const std::int32_t* blocks, std::int32_t row, std::int32_t head,
                std::int32_t kv_head, std::int32_t begin, std::int32_t end) {
    for (std::int32_t token = begin; token < end; ++token) {
      float score = 0.0F;
      for (std::int32_t d = 0; d < kDim; ++d) {
        score += data.query(row, head, d) * data.key(blocks, token, kv_head, d);
      }
      const SoftmaxState one{score * data.scale(), 1.0F};
      const SoftmaxState both = softmax_union(state, one);
      for (std::int32_t d = 0; d < kDim; ++d) {
        output[d] = output[d] * softmax_weight(state, both.max) +
                    data.value(blocks, token, kv_head, d) * softmax_weight(one, both.max);
      }
      state = both;
    }
  }
};

class Execution {
 public:
  explicit Execution(const PlannedDecode& plan)
      : plan_(plan),
        rows_(plan.rows()),
        data_(plan.rows()),
        states_(static_cast<std::size_t>(plan.header().num_partials * plan.rows().group)),
        partials_(states_.size() * kDim, NAN),
        out_(static_cast<std::size_t>(rows_.num_rows() * rows_.num_kv_heads * rows_.group * kDim), NAN) {}

  const std::vector<float>& run() {
    for (std::int32_t cta = 0; cta < rows_.num_ctas; ++cta) {
      for (const SharedItem& item : plan_.shared_items_of(cta)) {
        run_shared(item);
      }
      for (const DecodeItem& item : plan_.items_of(cta)) {
        run_own(item);
      }
    }
    merge();
    return out_;
  }

 private:
  void run_shared(const SharedItem& item) {
    const int num_queries = item.num_members * rows_.group;
    const WarpGrid grid(num_queries);
    const std::int32_t* blocks = plan_.block_table().data() + item.first_block;
    WarpQuery warps[kDecodeWarps][kSliceQueries];
    const auto member_of = [&](int query) {
      const SharedQuery which(query, rows_.group);
      return std::pair(plan_.members_of(item)[static_cast<std::size_t>(which.member)], which.head);
    };
    for (int warp = 0; warp < kDecodeWarps; ++warp) {
      for (int i = 0; i < kSliceQueries; ++i) {
        const int query = grid.slice(warp) * kSliceQueries + i;
        if (query >= num_queries) {
          continue;
        }
        const auto [member, head] = member_of(query);
        for (std::int32_t round = item.kv_begin; round < item.kv_end; round += kRoundTokens) {
          for (int slot = grid.lane(warp); slot < kDecodeWarps; slot += grid.num_lanes) {
            const std::int32_t begin = round + slot * kDecodeTileTokens;
            warps[warp][i].add_tile(data_, blocks, member.row, item.kv_head * rows_.group + head, item.kv_head, begin,
                                    std::min(begin + kDecodeTileTokens, item.kv_end));
          }
        }
      }
    }
    for (int query = 0; query < num_queries; ++query) {
      const auto [member, head] = member_of(query);
      const int first_warp = query / kSliceQueries * grid.num_lanes;
      store_partial(member.partial, head, &warps[first_warp][query % kSliceQueries], grid.num_lanes);
    }
  }

  void run_own(const DecodeItem& item) {
    const std::int32_t* blocks = plan_.block_table().data() + item.first_block;
    for (std::int32_t head = 0; head < rows_.group; ++head) {
      WarpQuery warps[kDecodeWarps][kSliceQueries];
      for (int warp = 0; warp < kDecodeWarps; ++warp) {
        for (std::int32_t begin = item.kv_begin + warp * kDecodeTileTokens; begin < item.kv_end;
             begin += kRoundTokens) {
          warps[warp][0].add_tile(data_, blocks, item.row, item.kv_head * rows_.group + head, item.kv_head, begin,
                                  std::min(begin + kDecodeTileTokens, item.kv_end));
        }
      }
      if (item.partial != kNoPartial) {
        store_partial(item.partial, head, &warps[0][0], kDecodeWarps);
        continue;
      }
      const auto [state, sums] = join(&warps[0][0], kDecodeWarps);
      for (std::int32_t d = 0; d < kDim; ++d) {
        out(item.row, item.kv_head, head, d) = sums[static_cast<std::size_t>(d)] / state.sum;
      }
    }
  }

  // Over the same query of `num_warps` neighbouring warps.
  static std::pair<SoftmaxState, std::vector<float>> join(const WarpQuery* first, int num_warps) {
    std::vector<SoftmaxState> states;
    std::vector<float> outputs;
    for (int i = 0; i < num_warps; ++i) {
      const WarpQuery& part = first[i * kSliceQueries];
      states.push_back(part.state);
      outputs.insert(outputs.end(), part.output, part.output + kDim);
    }
    const PartialRows parts{states.data(), outputs.data(), num_warps, 1, kDim};
    const SoftmaxState state = parts.merged_state();
    std::vector<float> sums;
    for (std::int32_t d = 0; d < kDim; ++d) {
      sums.push_back(parts.weighted_sum(state, d));
    }
    return {state, sums};
  }

  void store_partial(std::int32_t partial, std::int32_t head, const WarpQuery* first, int num_warps) {
    const auto slot = static_cast<std::size_t>(partial * rows_.group + head);
    const auto [state, sums] = join(first, num_warps);
    states_.at(slot) = state;
    std::copy(sums.begin(), sums.end(), partials_.begin() + static_cast<std::ptrdiff_t>(slot * kDim));
  }

  void merge() {
    for (const DecodeMerge& merge : plan_.merges()) {
      for (std::int32_t head = 0; head < rows_.group; ++head) {
        const std::ptrdiff_t first = std::ptrdiff_t{merge.partial_begin} * rows_.group + head;
        const PartialRows parts{states_.data() + first, partials_.data() + first * kDim,
                                merge.partial_end - merge.partial_begin, rows_.group, kDim};
        const SoftmaxState state = parts.merged_state();
        for (std::int32_t d = 0; d < kDim; ++d) {
          out(merge.row, merge.kv_head, head, d) = parts.merged_output(state, d);
        }
      }
    }
  }

  float& out(std::int32_t row, std::int32_t kv_head, std::int32_t head, std::int32_t d) {
    return out_[static_cast<std::size_t>(((row * rows_.num_kv_heads + kv_head) * rows_.group + head) * kDim + d)];
  }

  const PlannedDecode& plan_;
  const DecodeRows& rows_;
  PagedData data_;
  std::vector<SoftmaxState> states_;  // [slots, group]
  std::vector<float> partials_;       // [slots, group, kDim]
  std::vector<float> out_;            // [rows, heads, kDim]
};

void expect_attention(const DecodeRows& rows, const std::vector<float>& out) {
  const PagedData data(rows);
  std::size_t at = 0;
  for (std::int32_t row = 0; row < rows.num_rows(); ++row) {
    const std::int32_t* blocks = rows.tables[static_cast<std::size_t>(row)].data();
    for (std::int32_t head = 0; head < rows.num_kv_heads * rows.group; ++head) {
      const std::int32_t kv_head = head / rows.group;
      double total = 0;
      double sums[kDim] = {};
      for (std::int32_t token = 0; token < rows.kv_lens[static_cast<std::size_t>(row)]; ++token) {
        double score = 0;
        for (std::int32_t d = 0; d < kDim; ++d) {
          score +=
              static_cast<double>(data.query(row, head, d)) * static_cast<double>(data.key(blocks, token, kv_head, d));
        }
        const double weight = std::exp2(score * static_cast<double>(data.scale()));
        total += weight;
        for (std::int32_t d = 0; d < kDim; ++d) {
          sums[d] += weight * static_cast<double>(data.value(blocks, token, kv_head, d));
        }
      }
      for (const double sum : sums) {
        REQUIRE(static_cast<double>(out[at++]) == Approx(sum / total).margin(2e-5));
      }
    }
  }
}

}  // namespace

TEST_CASE("executing plans of separate rows gives attention") {
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    Draws draw(seed);
    std::vector<std::int32_t> kv_lens(static_cast<std::size_t>(draw.below(10)));
    std::generate(kv_lens.begin(), kv_lens.end(), [&] { return 1 + draw.below(700); });
    DecodeRows rows = separate_rows(std::move(kv_lens), 1 + draw.below(3), 1 + draw.below(40));
    rows.group = 1 + draw.below(5);
    const PlannedDecode plan(rows);
    expect_attention(rows, Execution(plan).run());
  }
}

TEST_CASE("executing plans of rows that share prefixes gives attention") {
  std::size_t num_sharing = 0;
  for (std::uint64_t seed = 100; num_sharing < 8; ++seed) {
    REQUIRE(seed < 200);
    DecodeRows rows = random_tree_rows(seed, 600);
    if (rows.num_rows() * rows.num_kv_heads * rows.group > 400) {
      continue;  // slow
    }
    rows.head_dim = 8192;  // so that sharing pays on little data
    const PlannedDecode plan(rows);
    num_sharing += plan.shared_items().empty() ? 0 : 1;
    expect_attention(rows, Execution(plan).run());
  }
}
