#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "kernels/cuda/decode_plan.h"

namespace blendserve::cuda {

// A decode batch that owns its arrays.
struct DecodeRows {
  std::vector<std::vector<std::int32_t>> tables{};  // the blocks of each row
  std::vector<std::int32_t> kv_lens{};
  std::int32_t num_kv_heads = 1;
  std::int32_t group = 1;
  std::int32_t head_dim = 128;
  std::int32_t block_size = 16;
  std::int32_t num_ctas = 1;
  std::int64_t max_partials = 1 << 16;
  std::int32_t kv_element_bytes = 2;
  bool may_share = true;

  std::int32_t num_rows() const { return static_cast<std::int32_t>(kv_lens.size()); }
};

// Its plan in host memory.
class PlannedDecode {
 public:
  explicit PlannedDecode(DecodeRows rows) : rows_(std::move(rows)) {
    for (const auto& table : rows_.tables) {
      block_indptr_.push_back(static_cast<std::int32_t>(block_table_.size()));
      block_table_.insert(block_table_.end(), table.begin(), table.end());
    }
    block_indptr_.push_back(static_cast<std::int32_t>(block_table_.size()));
    const auto bytes = static_cast<std::size_t>(
        decode_plan_bytes(rows_.num_rows(), rows_.num_kv_heads, rows_.num_ctas, rows_.max_partials));
    memory_.resize(bytes / sizeof(Line) + 1);
    used_bytes_ = plan_decode(batch(), std::as_writable_bytes(std::span(memory_)));
  }

  const DecodeRows& rows() const { return rows_; }
  const std::vector<std::int32_t>& block_table() const { return block_table_; }
  DecodeBatch batch() const {
    return {
        .kv_lens = rows_.kv_lens,
        .block_indptr = block_indptr_,
        .block_table = rows_.may_share ? std::span<const std::int32_t>(block_table_) : std::span<const std::int32_t>(),
        .num_kv_heads = rows_.num_kv_heads,
        .group = rows_.group,
        .head_dim = rows_.head_dim,
        .block_size = rows_.block_size,
        .num_ctas = rows_.num_ctas,
        .max_partials = rows_.max_partials,
        .kv_element_bytes = rows_.kv_element_bytes};
  }
  std::span<const std::byte> bytes() const {
    return std::as_bytes(std::span(memory_)).first(static_cast<std::size_t>(used_bytes_));
  }

  DecodePlanView view() const { return {memory_.data(), rows_.num_ctas}; }
  const DecodePlanHeader& header() const { return view().header(); }
  std::span<const DecodeItem> items() const { return {view().items(), size(header().num_items)}; }
  std::span<const SharedItem> shared_items() const { return {view().shared_items(), size(header().num_shared_items)}; }
  std::span<const DecodeMerge> merges() const { return {view().merges(), size(header().num_merges)}; }
  std::span<const SharedMember> members_of(const SharedItem& item) const {
    return {view().members() + item.first_member, size(item.num_members)};
  }
  std::span<const DecodeItem> items_of(std::int32_t cta) const { return cut(items(), view().cta_indptr(), cta); }
  std::span<const SharedItem> shared_items_of(std::int32_t cta) const {
    return cut(shared_items(), view().shared_cta_indptr(), cta);
  }

 private:
  struct alignas(16) Line {  // as a plan is aligned; has no padding, whose bytes would be anything
    std::byte bytes[16];
  };

  static std::size_t size(std::int32_t n) { return static_cast<std::size_t>(n); }

  template <typename Item>
  static std::span<const Item> cut(std::span<const Item> items, const std::int32_t* indptr, std::int32_t cta) {
    return items.subspan(size(indptr[cta]), size(indptr[cta + 1] - indptr[cta]));
  }

  DecodeRows rows_;
  std::vector<std::int32_t> block_indptr_;
  std::vector<std::int32_t> block_table_;
  std::vector<Line> memory_;
  std::int64_t used_bytes_ = 0;
};

class Draws {
 public:
  explicit Draws(std::uint64_t seed) : seed_(seed) {}
  std::int32_t below(std::int64_t n) {
    return static_cast<std::int32_t>(random_bits(seed_, next_++) % static_cast<std::uint64_t>(n));
  }

 private:
  std::uint64_t seed_;
  std::uint64_t next_ = 0;
};

// Rows without anything in common.
inline DecodeRows separate_rows(std::vector<std::int32_t> kv_lens, std::int32_t num_kv_heads, std::int32_t num_ctas) {
  DecodeRows rows{.num_kv_heads = num_kv_heads, .num_ctas = num_ctas};
  std::int32_t next_block = 0;
  for (const std::int32_t kv_len : kv_lens) {
    auto& table = rows.tables.emplace_back(static_cast<std::size_t>((kv_len + rows.block_size - 1) / rows.block_size));
    std::generate(table.begin(), table.end(), [&] { return next_block++; });
  }
  rows.kv_lens = std::move(kv_lens);
  return rows;
}

// Rows that are leaves of a random tree of prefixes, in any order.
inline DecodeRows random_tree_rows(std::uint64_t seed, std::int32_t longest_run) {
  Draws draw(seed);
  constexpr std::int32_t kBlockSizes[] = {1, 8, 16, 24, 32};
  constexpr std::int32_t kGroups[] = {1, 2, 4, 5, 7, 8, 16};
  DecodeRows rows{.num_kv_heads = 1 + draw.below(4),
                  .group = kGroups[draw.below(7)],
                  .block_size = kBlockSizes[draw.below(5)],
                  .num_ctas = 1 + draw.below(140)};
  std::int32_t next_block = 0;
  const auto grow = [&](std::vector<std::int32_t> table) {
    const std::int32_t num_blocks = draw.below(longest_run / rows.block_size + 1);
    for (std::int32_t i = 0; i < num_blocks; ++i) {
      table.push_back(next_block++);
    }
    return table;
  };
  std::vector<std::vector<std::int32_t>> prefixes{{}};
  for (std::int32_t i = 1 + draw.below(6); i > 0; --i) {
    prefixes.push_back(grow(prefixes[static_cast<std::size_t>(draw.below(std::ssize(prefixes)))]));
  }
  for (std::int32_t i = 1 + draw.below(70); i > 0; --i) {
    auto& table = rows.tables.emplace_back(grow(prefixes[static_cast<std::size_t>(draw.below(std::ssize(prefixes)))]));
    table.push_back(next_block++);
    rows.kv_lens.push_back((static_cast<std::int32_t>(table.size()) - 1) * rows.block_size + 1 +
                           draw.below(rows.block_size));
  }
  return rows;
}

}  // namespace blendserve::cuda
