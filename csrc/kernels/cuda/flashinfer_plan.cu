#include <algorithm>
#include <flashinfer/attention/scheduler.cuh>
#include <string>
#include <vector>

#include "base/error.h"
#include "kernels/cuda/flashinfer_prefill.h"

namespace blendserve::cuda {
namespace {

using Indices = std::vector<std::int32_t>;

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

std::int64_t num_query_rows(const AttentionBatch& sequences) {
  std::int64_t num_rows = 0;
  for (const std::int32_t qo_len : sequences.qo_lens) {
    num_rows += std::int64_t{qo_len} * sequences.group;
  }
  return num_rows;
}

void check(const FlashInferBatch& batch) {
  const AttentionBatch& sequences = batch.sequences;
  if (sequences.window != 0 || sequences.qo_lens.empty() || batch.block_size < 1 || sequences.num_ctas < 1) {
    throw InvalidInput("window is " + std::to_string(sequences.window) + ", block_size " +
                       std::to_string(batch.block_size) + " and num_ctas " + std::to_string(sequences.num_ctas) +
                       " for " + std::to_string(sequences.qo_lens.size()) +
                       " sequences; FlashInfer's prefill is built without windows, and all else must be 1 or more");
  }
  for (std::size_t s = 0; s < sequences.qo_lens.size(); ++s) {
    const std::int64_t end = sequences.first_blocks[s] + ceil_div(sequences.kv_lens[s], batch.block_size);
    if (sequences.qo_lens[s] < 1 || sequences.kv_lens[s] < sequences.qo_lens[s] || sequences.first_blocks[s] < 0 ||
        end > static_cast<std::int64_t>(batch.block_table.size())) {
      throw InvalidInput("sequence " + std::to_string(s) + " has " + std::to_string(sequences.qo_lens[s]) +
                         " query tokens, " + std::to_string(sequences.kv_lens[s]) + " positions and blocks " +
                         std::to_string(sequences.first_blocks[s]) + " to " + std::to_string(end) +
                         " of a block table with " + std::to_string(batch.block_table.size()) + " entries");
    }
    if (s > 0 && sequences.first_tokens[s] != sequences.first_tokens[s - 1] + sequences.qo_lens[s - 1]) {
      throw InvalidInput("sequence " + std::to_string(s) + " begins at query token " +
                         std::to_string(sequences.first_tokens[s]) + ", not where the one before it ends");
    }
  }
  if (num_query_rows(sequences) / static_cast<std::int64_t>(sequences.qo_lens.size()) < kFlashInferMinRows) {
    throw InvalidInput("the sequences have " + std::to_string(num_query_rows(sequences)) +
                       " query rows in all; fewer than " + std::to_string(kFlashInferMinRows) +
                       " each on average need kernels of FlashInfer that this library leaves out: use paged_attention");
  }
}

std::int64_t max_splits(const AttentionBatch& sequences) {
  return 2 * std::int64_t{sequences.num_ctas} / sequences.num_kv_heads;
}

// Writes index arrays front to back.
class IndexWriter {
 public:
  explicit IndexWriter(std::span<std::byte> plan) : plan_(plan) {}

  // Returns the byte offset of the array.
  std::int64_t append(const Indices& indices) {
    const std::int64_t begin = end_;
    end_ = ceil_div(begin + static_cast<std::int64_t>(indices.size() * sizeof(std::int32_t)), 16) * 16;
    if (end_ > static_cast<std::int64_t>(plan_.size())) {
      throw InvalidInput("the plan buffer has " + std::to_string(plan_.size()) + " bytes; this batch needs more than " +
                         std::to_string(end_) + " (flashinfer_plan_bytes)");
    }
    std::copy(indices.begin(), indices.end(), reinterpret_cast<std::int32_t*>(plan_.data() + begin));
    return begin;
  }

  std::int64_t end() const { return end_; }

 private:
  std::span<std::byte> plan_;
  std::int64_t end_ = 0;
};

}  // namespace

bool has_flashinfer() { return true; }

std::int64_t flashinfer_plan_bytes(const FlashInferBatch& batch) {
  const AttentionBatch& sequences = batch.sequences;
  std::int64_t num_pages = 0;
  for (const std::int32_t kv_len : sequences.kv_lens) {
    num_pages += ceil_div(kv_len, batch.block_size);
  }
  const auto num_seqs = static_cast<std::int64_t>(sequences.qo_lens.size());
  const std::int64_t num_tiles = num_query_rows(sequences) / kTileRows + num_seqs;
  const std::int64_t num_indices = num_pages + 4 * (num_seqs + 1) + 3 * std::max(num_tiles, max_splits(sequences)) +
                                   num_query_rows(sequences) / sequences.group + 2;
  constexpr std::int64_t kNumArrays = 10;
  return num_indices * static_cast<std::int64_t>(sizeof(std::int32_t)) + kNumArrays * 16;
}

blendserve_flashinfer_plan plan_flashinfer(const FlashInferBatch& batch, std::span<std::byte> plan) {
  check(batch);
  const AttentionBatch& sequences = batch.sequences;
  Indices q_indptr{0}, page_indptr{0}, pages, last_page_lens;
  for (std::size_t s = 0; s < sequences.qo_lens.size(); ++s) {
    const auto num_pages = static_cast<std::int32_t>(ceil_div(sequences.kv_lens[s], batch.block_size));
    const auto blocks = batch.block_table.subspan(static_cast<std::size_t>(sequences.first_blocks[s]),
                                                  static_cast<std::size_t>(num_pages));
    pages.insert(pages.end(), blocks.begin(), blocks.end());
    q_indptr.push_back(q_indptr.back() + sequences.qo_lens[s]);
    page_indptr.push_back(page_indptr.back() + num_pages);
    last_page_lens.push_back((sequences.kv_lens[s] - 1) % batch.block_size + 1);
  }
  const auto num_seqs = static_cast<std::uint32_t>(sequences.qo_lens.size());
  const auto num_tokens = static_cast<std::uint32_t>(q_indptr.back());
  const auto [is_split, num_tiles, padded, tile_rows, chunk_tokens, requests, q_tiles, kv_tiles, merge_indptr,
              o_indptr] =
      flashinfer::PrefillSplitQOKVIndptr<std::int32_t>(
          q_indptr.data(), page_indptr.data(), num_tokens, num_seqs,
          static_cast<std::uint32_t>(sequences.num_kv_heads * sequences.group),
          static_cast<std::uint32_t>(sequences.num_kv_heads), static_cast<std::uint32_t>(sequences.head_dim),
          static_cast<std::uint32_t>(batch.block_size), static_cast<std::uint32_t>(max_splits(sequences)),
          /*enable_cuda_graph=*/false, /*window_left=*/-1, /*fixed_split_size=*/-1, /*disable_split_kv=*/false,
          /*uniform_q_len=*/0);
  if (tile_rows != kTileRows || padded != num_tiles) {
    throw InvalidInput("FlashInfer plans tiles of " + std::to_string(tile_rows) + " rows, " + std::to_string(padded) +
                       " of them; its kernels are built for " + std::to_string(kTileRows));
  }
  IndexWriter writer(plan);
  blendserve_flashinfer_plan planned{};
  planned.q_indptr = writer.append(q_indptr);
  planned.page_indptr = writer.append(page_indptr);
  planned.pages = writer.append(pages);
  planned.last_page_lens = writer.append(last_page_lens);
  planned.requests = writer.append(requests);
  planned.q_tiles = writer.append(q_tiles);
  planned.kv_tiles = writer.append(kv_tiles);
  planned.merge_indptr = writer.append(merge_indptr);
  planned.o_indptr = writer.append(o_indptr);
  planned.chunk_tokens = writer.append({static_cast<std::int32_t>(chunk_tokens)});
  planned.used_bytes = writer.end();
  planned.num_partial_tokens = is_split ? o_indptr.back() : 0;
  planned.first_token = sequences.first_tokens[0];
  planned.num_seqs = static_cast<std::int32_t>(num_seqs);
  planned.num_tokens = static_cast<std::int32_t>(num_tokens);
  planned.num_tiles = static_cast<std::int32_t>(num_tiles);
  return planned;
}

}  // namespace blendserve::cuda
