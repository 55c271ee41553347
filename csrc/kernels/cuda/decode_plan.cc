#include "kernels/cuda/decode_plan.h"

#include <algorithm>
#include <string>

#include "base/error.h"

namespace blendserve::cuda {
namespace {

std::int64_t num_tiles(std::int32_t kv_len) {
  return (std::int64_t{kv_len} + kDecodeTileTokens - 1) / kDecodeTileTokens;
}

void check_batch(const DecodeBatch& batch, std::span<std::byte> plan) {
  if (batch.num_ctas < 1 || batch.num_kv_heads < 1) {
    throw InvalidInput("num_ctas is " + std::to_string(batch.num_ctas) + " and num_kv_heads " +
                       std::to_string(batch.num_kv_heads) + "; both must be 1 or more");
  }
  if (batch.block_indptr.size() < batch.kv_lens.size()) {
    throw InvalidInput("block_indptr has " + std::to_string(batch.block_indptr.size()) + " entries for " +
                       std::to_string(batch.kv_lens.size()) + " rows; it needs one per row");
  }
  for (std::size_t row = 0; row < batch.kv_lens.size(); ++row) {
    if (batch.kv_lens[row] < 1) {
      throw InvalidInput("kv_lens[" + std::to_string(row) + "] is " + std::to_string(batch.kv_lens[row]) +
                         "; a decoding row attends to itself at least, so it must be 1 or more");
    }
  }
  const auto needed =
      decode_plan_bytes(static_cast<std::int32_t>(batch.kv_lens.size()), batch.num_kv_heads, batch.num_ctas);
  if (static_cast<std::int64_t>(plan.size()) < needed) {
    throw InvalidInput("the plan buffer has " + std::to_string(plan.size()) + " bytes; this batch may need " +
                       std::to_string(needed) + " (decode_plan_bytes)");
  }
}

// Writes a plan front to back: ranges are offered in order, and a CTA is closed when its stretch of tiles is full.
class PlanWriter {
 public:
  PlanWriter(std::span<std::byte> plan, std::int32_t num_ctas, std::int64_t total_tiles)
      : header_(reinterpret_cast<DecodePlanHeader*>(plan.data())),
        cta_indptr_(reinterpret_cast<std::int32_t*>(plan.data() + decode_plan_layout(num_ctas).cta_indptr)),
        merges_(reinterpret_cast<DecodeMerge*>(plan.data() + decode_plan_layout(num_ctas).merges)),
        items_(reinterpret_cast<DecodeItem*>(plan.data() + decode_plan_layout(num_ctas).items)),
        num_ctas_(num_ctas),
        total_tiles_(total_tiles) {
    *header_ = {};
    cta_indptr_[0] = 0;
    cta_end_ = end_of_cta(0);
  }

  void add_pair(std::int32_t row, std::int32_t kv_head, std::int32_t kv_len, std::int32_t first_block) {
    const std::int32_t first_item = header_->num_items;
    const std::int64_t tiles = num_tiles(kv_len);
    for (std::int64_t begin = 0; begin < tiles;) {
      while (at_ == cta_end_) {
        close_cta();
      }
      const std::int64_t take = std::min(tiles - begin, cta_end_ - at_);
      items_[header_->num_items++] = {
          .row = row,
          .kv_head = kv_head,
          .kv_begin = static_cast<std::int32_t>(begin * kDecodeTileTokens),
          .kv_end = static_cast<std::int32_t>(std::min<std::int64_t>(kv_len, (begin + take) * kDecodeTileTokens)),
          .first_block = first_block,
          .partial = kNoPartial,
          .unused = {0, 0}};
      begin += take;
      at_ += take;
    }
    if (header_->num_items - first_item > 1) {
      add_merge(row, kv_head, first_item);
    }
  }

  void close() {
    while (cta_ < num_ctas_) {
      close_cta();
    }
  }

 private:
  std::int64_t end_of_cta(std::int32_t cta) const { return total_tiles_ * (cta + 1) / num_ctas_; }

  void close_cta() {
    cta_indptr_[++cta_] = header_->num_items;
    cta_end_ = end_of_cta(cta_);
  }

  void add_merge(std::int32_t row, std::int32_t kv_head, std::int32_t first_item) {
    const std::int32_t first_partial = header_->num_partials;
    for (std::int32_t item = first_item; item < header_->num_items; ++item) {
      items_[item].partial = header_->num_partials++;
    }
    merges_[header_->num_merges++] = {row, kv_head, first_partial, header_->num_partials};
  }

  DecodePlanHeader* header_;
  std::int32_t* cta_indptr_;
  DecodeMerge* merges_;
  DecodeItem* items_;
  std::int32_t num_ctas_;
  std::int64_t total_tiles_;
  std::int64_t at_ = 0;       // tiles given out so far
  std::int32_t cta_ = 0;      // the CTA that gets the next range
  std::int64_t cta_end_ = 0;  // the tile at which it is full
};

}  // namespace

std::int64_t decode_plan_bytes(std::int32_t max_rows, std::int32_t num_kv_heads, std::int32_t num_ctas) {
  const std::int64_t max_items = std::int64_t{max_rows} * num_kv_heads + num_ctas;
  return decode_plan_layout(num_ctas).items + max_items * static_cast<std::int64_t>(sizeof(DecodeItem));
}

std::int64_t plan_decode(const DecodeBatch& batch, std::span<std::byte> plan) {
  check_batch(batch, plan);
  std::int64_t total_tiles = 0;
  for (const std::int32_t kv_len : batch.kv_lens) {
    total_tiles += num_tiles(kv_len) * batch.num_kv_heads;
  }
  PlanWriter writer(plan, batch.num_ctas, total_tiles);
  for (std::size_t row = 0; row < batch.kv_lens.size(); ++row) {
    for (std::int32_t kv_head = 0; kv_head < batch.num_kv_heads; ++kv_head) {
      writer.add_pair(static_cast<std::int32_t>(row), kv_head, batch.kv_lens[row], batch.block_indptr[row]);
    }
  }
  writer.close();
  const DecodePlanView written(plan.data(), batch.num_ctas);
  return written.layout.items + written.header().num_items * static_cast<std::int64_t>(sizeof(DecodeItem));
}

}  // namespace blendserve::cuda
