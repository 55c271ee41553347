#include "kernels/cuda/decode_plan.h"

#include <algorithm>
#include <string>
#include <vector>

#include "base/error.h"
#include "kernels/cuda/grid_cut.h"
#include "kernels/cuda/shared_item.h"
#include "kernels/cuda/shared_plan.h"
#include "kernels/cuda/shared_runs.h"

namespace blendserve::cuda {
namespace {

std::int64_t num_tiles(std::int32_t num_tokens) {
  return (std::int64_t{num_tokens} + kDecodeTileTokens - 1) / kDecodeTileTokens;
}

void check_shape(const DecodeBatch& batch) {
  if (batch.num_ctas < 1 || batch.num_kv_heads < 1) {
    throw InvalidInput("num_ctas is " + std::to_string(batch.num_ctas) + " and num_kv_heads " +
                       std::to_string(batch.num_kv_heads) + "; both must be 1 or more");
  }
  if (batch.max_partials < min_decode_partials(batch.num_ctas)) {
    throw InvalidInput("max_partials is " + std::to_string(batch.max_partials) + "; " + std::to_string(batch.num_ctas) +
                       " CTAs need " + std::to_string(min_decode_partials(batch.num_ctas)) + " partial slots at least");
  }
  if (!batch.block_table.empty() &&
      (batch.group < 1 || batch.group > kMaxSharedQueries || batch.head_dim < 1 || batch.block_size < 1)) {
    throw InvalidInput("group is " + std::to_string(batch.group) + ", head_dim " + std::to_string(batch.head_dim) +
                       " and block_size " + std::to_string(batch.block_size) + "; all must be 1 or more, and group " +
                       std::to_string(kMaxSharedQueries) + " at most");
  }
  if (!batch.block_table.empty() && batch.kv_element_bytes != 1 && batch.kv_element_bytes != 2) {
    throw InvalidInput("kv_element_bytes is " + std::to_string(batch.kv_element_bytes) +
                       "; a cached element has 1 or 2");
  }
}

void check_batch(const DecodeBatch& batch, std::span<std::byte> plan) {
  check_shape(batch);
  if (batch.block_indptr.size() <= batch.kv_lens.size()) {
    throw InvalidInput("block_indptr has " + std::to_string(batch.block_indptr.size()) + " entries for " +
                       std::to_string(batch.kv_lens.size()) + " rows; it needs one more than there are rows");
  }
  for (std::size_t row = 0; row < batch.kv_lens.size(); ++row) {
    if (batch.kv_lens[row] < 1) {
      throw InvalidInput("kv_lens[" + std::to_string(row) + "] is " + std::to_string(batch.kv_lens[row]) +
                         "; a decoding row attends to itself at least, so it must be 1 or more");
    }
  }
  for (std::size_t row = 0; row < batch.kv_lens.size() && !batch.block_table.empty(); ++row) {
    const std::int64_t end = batch.block_indptr[row] + (std::int64_t{batch.kv_lens[row]} - 1) / batch.block_size + 1;
    if (batch.block_indptr[row] < 0 || end > static_cast<std::int64_t>(batch.block_table.size())) {
      throw InvalidInput("row " + std::to_string(row) + " has blocks " + std::to_string(batch.block_indptr[row]) +
                         " to " + std::to_string(end) + " of a block table with " +
                         std::to_string(batch.block_table.size()) + " entries");
    }
  }
  const auto needed = decode_plan_bytes(batch.num_rows(), batch.num_kv_heads, batch.num_ctas, batch.max_partials);
  if (static_cast<std::int64_t>(plan.size()) < needed) {
    throw InvalidInput("the plan buffer has " + std::to_string(plan.size()) + " bytes; this batch may need " +
                       std::to_string(needed) + " (decode_plan_bytes)");
  }
}

// Writes a plan front to back.
class PlanWriter {
 public:
  PlanWriter(std::span<std::byte> plan, std::int32_t num_ctas, std::int64_t total_tiles)
      : plan_(plan),
        cta_indptr_(at<std::int32_t>(sizeof(DecodePlanHeader)), static_cast<std::size_t>(num_ctas) + 1),
        items_(at<DecodeItem>(DecodePlanView::items_offset(num_ctas))),
        cut_(total_tiles, cta_indptr_),
        end_(DecodePlanView::items_offset(num_ctas)) {}

  // Positions [kv_begin, kv_end) of a pair, of which num_shared_parts partial results cover those before. Returns the
  // pair's first partial slot.
  std::int32_t add_pair(DecodeItem pair, std::int32_t num_shared_parts) {
    const std::int32_t first_item = header_.num_items;
    std::int64_t tiles = num_tiles(pair.kv_end - pair.kv_begin);
    for (DecodeItem item = pair; tiles > 0; item.kv_begin = item.kv_end) {
      const std::int64_t taken = cut_.take(tiles, 1, header_.num_items);
      tiles -= taken;
      item.kv_end = static_cast<std::int32_t>(
          std::min<std::int64_t>(pair.kv_end, item.kv_begin + taken * std::int64_t{kDecodeTileTokens}));
      items_[header_.num_items++] = item;
    }
    const std::int32_t first_partial = header_.num_partials;
    if (num_shared_parts + header_.num_items - first_item > 1) {
      header_.num_partials += num_shared_parts;
      for (std::int32_t item = first_item; item < header_.num_items; ++item) {
        items_[item].partial = header_.num_partials++;
      }
      merges_.push_back({pair.row, pair.kv_head, first_partial, header_.num_partials});
    }
    return first_partial;
  }

  // Returns the bytes written.
  std::int64_t close(const SharedPlan& shared) {
    cut_.close(header_.num_items);
    std::copy(shared.cta_indptr.begin(), shared.cta_indptr.end(), cta_indptr_.data() + cta_indptr_.size());
    header_.num_merges = static_cast<std::int32_t>(merges_.size());
    header_.num_shared_items = static_cast<std::int32_t>(shared.items.size());
    end_ += header_.num_items * static_cast<std::int64_t>(sizeof(DecodeItem));
    header_.merges = append(merges_);
    header_.shared_items = append(shared.items);
    header_.members = append(shared.members);
    header_.end = end_;
    *at<DecodePlanHeader>(0) = header_;
    return end_;
  }

 private:
  template <typename Element>
  Element* at(std::int64_t offset) const {
    return reinterpret_cast<Element*>(plan_.data() + offset);
  }

  template <typename Element>
  std::int64_t append(const std::vector<Element>& elements) {
    const std::int64_t begin = end_;
    std::copy(elements.begin(), elements.end(), at<Element>(begin));
    end_ += static_cast<std::int64_t>(elements.size() * sizeof(Element));
    return begin;
  }

  std::span<std::byte> plan_;
  DecodePlanHeader header_{};
  std::span<std::int32_t> cta_indptr_;
  DecodeItem* items_;
  std::vector<DecodeMerge> merges_;
  GridCut cut_;
  std::int64_t end_;  // in bytes
};

// Turns each member's part number into the slot that the pair got for it.
void place_members(SharedPlan& shared, const std::vector<std::int32_t>& first_partials, std::int32_t num_kv_heads) {
  for (const SharedItem& item : shared.items) {
    for (std::int32_t i = item.first_member; i < item.first_member + item.num_members; ++i) {
      SharedMember& member = shared.members[static_cast<std::size_t>(i)];
      member.partial += first_partials[static_cast<std::size_t>(member.row * num_kv_heads + item.kv_head)];
    }
  }
}

}  // namespace

std::int64_t decode_plan_bytes(std::int32_t max_rows, std::int32_t num_kv_heads, std::int32_t num_ctas,
                               std::int64_t max_partials) {
  // A merge has two partial results or more, a shared item and a member one.
  constexpr auto kBytesOfAPartial =
      static_cast<std::int64_t>(sizeof(DecodeMerge) / 2 + sizeof(SharedItem) + sizeof(SharedMember));
  const std::int64_t max_items = std::int64_t{max_rows} * num_kv_heads + num_ctas;
  return DecodePlanView::items_offset(num_ctas) + max_items * static_cast<std::int64_t>(sizeof(DecodeItem)) +
         max_partials * kBytesOfAPartial;
}

std::int64_t plan_decode(const DecodeBatch& batch, std::span<std::byte> plan) {
  check_batch(batch, plan);
  const SharedRuns runs = find_shared_runs(batch);
  SharedPlan shared = plan_shared(batch, runs);

  std::int64_t total_tiles = 0;
  for (std::size_t row = 0; row < batch.kv_lens.size(); ++row) {
    total_tiles += num_tiles(batch.kv_lens[row] - runs.shared_len[row]) * batch.num_kv_heads;
  }
  PlanWriter writer(plan, batch.num_ctas, total_tiles);
  std::vector<std::int32_t> first_partials(shared.num_parts.size());
  for (std::size_t row = 0, pair = 0; row < batch.kv_lens.size(); ++row) {
    for (std::int32_t kv_head = 0; kv_head < batch.num_kv_heads; ++kv_head, ++pair) {
      first_partials[pair] = writer.add_pair({.row = static_cast<std::int32_t>(row),
                                              .kv_head = kv_head,
                                              .kv_begin = runs.shared_len[row],
                                              .kv_end = batch.kv_lens[row],
                                              .first_block = batch.block_indptr[row],
                                              .partial = kNoPartial,
                                              .unused = {0, 0}},
                                             shared.num_parts[pair]);
    }
  }
  place_members(shared, first_partials, batch.num_kv_heads);
  return writer.close(shared);
}

}  // namespace blendserve::cuda
