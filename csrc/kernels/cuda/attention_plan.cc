#include "kernels/cuda/attention_plan.h"

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "base/error.h"
#include "kernels/cuda/grid_cut.h"
#include "kernels/cuda/shared_item.h"

namespace blendserve::cuda {
namespace {

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Of one round of a tile, in slices of 16 rows: up to this many are multiplied while the round is read from memory.
constexpr std::int64_t kSlicesWhileReading = 4;

std::int64_t round_cost(std::int32_t num_rows) {
  return std::max(kSlicesWhileReading, std::int64_t{WarpGrid(num_rows).num_slices});
}

void check_shape(const AttentionBatch& batch) {
  if (batch.num_kv_heads < 1 || batch.group < 1 || batch.head_dim < 1 || batch.num_ctas < 1 || batch.window < 0) {
    throw InvalidInput("num_kv_heads is " + std::to_string(batch.num_kv_heads) + ", group " +
                       std::to_string(batch.group) + ", head_dim " + std::to_string(batch.head_dim) + ", num_ctas " +
                       std::to_string(batch.num_ctas) + " and window " + std::to_string(batch.window) +
                       "; all must be 1 or more, and window 0 or more");
  }
  const std::size_t num_seqs = batch.qo_lens.size();
  if (batch.first_tokens.size() != num_seqs || batch.kv_lens.size() != num_seqs ||
      batch.first_blocks.size() != num_seqs) {
    throw InvalidInput("first_tokens, qo_lens, kv_lens and first_blocks have " +
                       std::to_string(batch.first_tokens.size()) + ", " + std::to_string(num_seqs) + ", " +
                       std::to_string(batch.kv_lens.size()) + " and " + std::to_string(batch.first_blocks.size()) +
                       " entries; each must have one for every sequence");
  }
}

void check_sequences(const AttentionBatch& batch) {
  for (std::size_t s = 0; s < batch.qo_lens.size(); ++s) {
    if (batch.qo_lens[s] < 1 || batch.kv_lens[s] < batch.qo_lens[s] || batch.first_tokens[s] < 0 ||
        batch.first_blocks[s] < 0) {
      throw InvalidInput("sequence " + std::to_string(s) + " has " + std::to_string(batch.qo_lens[s]) +
                         " query tokens from " + std::to_string(batch.first_tokens[s]) + " on, " +
                         std::to_string(batch.kv_lens[s]) + " positions and blocks from " +
                         std::to_string(batch.first_blocks[s]) +
                         " on; it needs 1 query token or more, as many positions at least, and nothing negative");
    }
    if (std::int64_t{batch.qo_lens[s]} * batch.group > std::numeric_limits<std::int32_t>::max() - kTileRows) {
      throw InvalidInput("sequence " + std::to_string(s) + " has " + std::to_string(batch.qo_lens[s]) +
                         " query tokens of " + std::to_string(batch.group) +
                         " heads to a KV head; fewer than 2^31 in all can be planned: compute shorter chunks");
    }
  }
}

// A sequence's tile from `first_row` on, over all the positions it reads.
AttentionItem tile_at(const AttentionBatch& batch, std::size_t s, std::int32_t kv_head, std::int32_t first_row) {
  const std::int32_t num_rows = std::min(kTileRows, batch.qo_lens[s] * batch.group - first_row);
  const std::int32_t num_before = batch.kv_lens[s] - batch.qo_lens[s];
  const std::int32_t first_position = num_before + first_row / batch.group;
  const std::int32_t last_position = num_before + (first_row + num_rows - 1) / batch.group;
  return {.first_token = batch.first_tokens[s],
          .first_row = first_row,
          .num_rows = num_rows,
          .kv_head = kv_head,
          .num_before = num_before,
          .kv_begin = batch.window == 0 ? 0 : std::max(0, first_position - batch.window + 1),
          .kv_end = last_position + 1,
          .first_block = batch.first_blocks[s],
          .partial = kNoPartialRow,
          .unused = {0, 0, 0}};
}

// In the order of sequences and KV heads: neighbours read the same keys and values.
template <typename Visit>
void for_each_tile(const AttentionBatch& batch, Visit visit) {
  for (std::size_t s = 0; s < batch.qo_lens.size(); ++s) {
    for (std::int32_t kv_head = 0; kv_head < batch.num_kv_heads; ++kv_head) {
      for (std::int32_t row = 0; row < batch.qo_lens[s] * batch.group; row += kTileRows) {
        visit(tile_at(batch, s, kv_head, row));
      }
    }
  }
}

std::int64_t num_rounds(const AttentionBatch& batch, const AttentionItem& item) {
  return ceil_div(item.kv_end - item.kv_begin, round_tokens(batch.head_dim));
}

// Writes a plan front to back.
class AttentionPlanWriter {
 public:
  AttentionPlanWriter(const AttentionBatch& batch, std::span<std::byte> plan, std::int64_t total_cost)
      : batch_(batch),
        plan_(plan),
        items_(at<AttentionItem>(AttentionPlanView::items_offset(batch.num_ctas))),
        cut_(total_cost,
             {at<std::int32_t>(sizeof(AttentionPlanHeader)), static_cast<std::size_t>(batch.num_ctas) + 1}) {}

  void add(const AttentionItem& tile) {
    const std::int32_t first_item = header_.num_items;
    std::int64_t rounds = num_rounds(batch_, tile);
    for (AttentionItem item = tile; rounds > 0; item.kv_begin = item.kv_end) {
      const std::int64_t taken = cut_.take(rounds, round_cost(tile.num_rows), header_.num_items);
      rounds -= taken;
      item.kv_end = static_cast<std::int32_t>(
          std::min<std::int64_t>(tile.kv_end, item.kv_begin + taken * round_tokens(batch_.head_dim)));
      items_[header_.num_items++] = item;
    }
    const std::int32_t num_parts = header_.num_items - first_item;
    if (num_parts > 1) {
      merges_.push_back(
          {tile.first_token, tile.first_row, tile.num_rows, tile.kv_head, num_partial_rows_, num_parts, {0, 0}});
      for (std::int32_t item = first_item; item < header_.num_items; ++item) {
        items_[item].partial = num_partial_rows_;
        num_partial_rows_ += tile.num_rows;
      }
    }
  }

  // Returns the bytes written.
  std::int64_t close() {
    cut_.close(header_.num_items);
    header_.num_merges = static_cast<std::int32_t>(merges_.size());
    header_.merges = AttentionPlanView::items_offset(batch_.num_ctas) +
                     header_.num_items * static_cast<std::int64_t>(sizeof(AttentionItem));
    std::copy(merges_.begin(), merges_.end(), at<AttentionMerge>(header_.merges));
    *at<AttentionPlanHeader>(0) = header_;
    return header_.merges + header_.num_merges * static_cast<std::int64_t>(sizeof(AttentionMerge));
  }

 private:
  template <typename Element>
  Element* at(std::int64_t offset) const {
    return reinterpret_cast<Element*>(plan_.data() + offset);
  }

  const AttentionBatch& batch_;
  std::span<std::byte> plan_;
  AttentionPlanHeader header_{};
  AttentionItem* items_;
  std::vector<AttentionMerge> merges_;
  std::int32_t num_partial_rows_ = 0;
  GridCut cut_;
};

}  // namespace

std::int64_t attention_plan_bytes(const AttentionBatch& batch) {
  std::int64_t num_tiles = 0;
  for (const std::int32_t qo_len : batch.qo_lens) {
    num_tiles += batch.num_kv_heads * ceil_div(std::int64_t{qo_len} * batch.group, kTileRows);
  }
  // The end of a CTA's stretch cuts one tile at most.
  return AttentionPlanView::items_offset(batch.num_ctas) +
         (num_tiles + batch.num_ctas) * static_cast<std::int64_t>(sizeof(AttentionItem)) +
         batch.num_ctas * static_cast<std::int64_t>(sizeof(AttentionMerge));
}

std::int64_t plan_attention(const AttentionBatch& batch, std::span<std::byte> plan) {
  check_shape(batch);
  check_sequences(batch);
  if (static_cast<std::int64_t>(plan.size()) < attention_plan_bytes(batch)) {
    throw InvalidInput("the plan buffer has " + std::to_string(plan.size()) + " bytes; this batch may need " +
                       std::to_string(attention_plan_bytes(batch)) + " (attention_plan_bytes)");
  }
  std::int64_t total_cost = 0;
  for_each_tile(batch,
                [&](const AttentionItem& tile) { total_cost += num_rounds(batch, tile) * round_cost(tile.num_rows); });
  AttentionPlanWriter writer(batch, plan, total_cost);
  for_each_tile(batch, [&](const AttentionItem& tile) { writer.add(tile); });
  return writer.close();
}

}  // namespace blendserve::cuda
