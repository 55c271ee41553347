#include "kernels/cuda/shared_runs.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "kernels/cuda/decode_plan.h"
#include "kernels/cuda/shared_item.h"
#include "kernels/cuda/softmax_state.h"

namespace blendserve::cuda {
namespace {

// What a GPU reads while one kernel more starts and ends, about 4 us at 2 TB/s.
constexpr std::int64_t kKernelBytes = std::int64_t{8} << 20;

class RunFinder {
 public:
  explicit RunFinder(const DecodeBatch& batch)
      : batch_(batch),
        free_partials_(batch.max_partials - min_decode_partials(batch.num_ctas) -
                       std::int64_t{batch.num_ctas} * max_chunk_rows(batch.group)) {
    found_.rows.resize(batch.kv_lens.size());
    std::iota(found_.rows.begin(), found_.rows.end(), 0);
    found_.shared_len.assign(batch.kv_lens.size(), 0);
  }

  static std::int32_t max_chunk_rows(std::int32_t group) { return kMaxSharedQueries / group; }

  SharedRuns find() {
    waiting_.push_back({0, batch_.num_rows(), 0, 0});
    while (!waiting_.empty()) {
      const Node node = waiting_.back();
      waiting_.pop_back();
      visit(node);
    }
    if (saved_bytes_ * batch_.num_kv_heads < kKernelBytes) {
      found_.runs.clear();
      std::fill(found_.shared_len.begin(), found_.shared_len.end(), 0);
    }
    return std::move(found_);
  }

 private:
  // Rows whose first num_blocks blocks are the same; positions from kv_begin on are in no run yet.
  struct Node {
    std::int32_t row_begin;
    std::int32_t row_end;
    std::int32_t num_blocks;
    std::int32_t kv_begin;
  };

  // Sorts the node's rows by their next block, and makes a run and a node of each set that shares it.
  void visit(const Node& node) {
    const auto next_block = [&](std::int32_t row) {
      return node.num_blocks < num_shareable(row) ? blocks(row)[node.num_blocks] : -1;
    };
    const auto rows = found_.rows.begin();
    std::sort(rows + node.row_begin, rows + node.row_end, [&](std::int32_t a, std::int32_t b) {
      return std::pair(next_block(a), a) < std::pair(next_block(b), b);
    });
    for (std::int32_t begin = node.row_begin; begin < node.row_end;) {
      const std::int32_t block = next_block(rows[begin]);
      std::int32_t end = begin + 1;
      while (end < node.row_end && next_block(rows[end]) == block) {
        ++end;
      }
      if (block >= 0 && end - begin > 1) {
        add({begin, end, num_common_blocks(begin, end), node.kv_begin});
      }
      begin = end;
    }
  }

  // When the run does not pay, those below take its positions in.
  void add(Node node) {
    const SharedRun run{node.row_begin, node.row_end, node.kv_begin, node.num_blocks * batch_.block_size};
    if (keep(run)) {
      found_.runs.push_back(run);
      for (std::int32_t at = run.row_begin; at < run.row_end; ++at) {
        found_.shared_len[index(found_.rows[index(at)])] = run.kv_end;
      }
      node.kv_begin = run.kv_end;
    }
    waiting_.push_back(node);
  }

  bool keep(const SharedRun& run) {
    // A row's first run makes a partial result of its other positions too. Each is written and read.
    const std::int64_t num_partials = std::int64_t{run.num_rows()} * (run.kv_begin == 0 ? 2 : 1);
    const std::int64_t merge_bytes = 2 * num_partials * decode_partial_bytes(batch_.group, batch_.head_dim);
    const std::int64_t num_reads_saved = run.num_rows() - num_row_chunks(run.num_rows(), batch_.group);
    const std::int64_t saved =
        num_reads_saved * (run.kv_end - run.kv_begin) * 2 * batch_.head_dim * batch_.kv_element_bytes - merge_bytes;
    if (saved <= 0 || num_partials * batch_.num_kv_heads > free_partials_) {
      return false;
    }
    saved_bytes_ += saved;
    free_partials_ -= num_partials * batch_.num_kv_heads;
    return true;
  }

  std::int32_t num_common_blocks(std::int32_t row_begin, std::int32_t row_end) const {
    const std::int32_t first = found_.rows[index(row_begin)];
    std::int32_t common = num_shareable(first);
    for (std::int32_t at = row_begin + 1; at < row_end; ++at) {
      const std::int32_t row = found_.rows[index(at)];
      const std::int32_t* end = blocks(first) + std::min(common, num_shareable(row));
      common = static_cast<std::int32_t>(std::mismatch(blocks(first), end, blocks(row)).first - blocks(first));
    }
    return common;
  }

  // Full blocks before the last position, which every row keeps to itself.
  std::int32_t num_shareable(std::int32_t row) const { return (batch_.kv_lens[index(row)] - 1) / batch_.block_size; }

  const std::int32_t* blocks(std::int32_t row) const {
    return batch_.block_table.data() + batch_.block_indptr[index(row)];
  }

  static std::size_t index(std::int32_t i) { return static_cast<std::size_t>(i); }

  const DecodeBatch& batch_;
  SharedRuns found_;
  std::vector<Node> waiting_;
  std::int64_t free_partials_;
  std::int64_t saved_bytes_ = 0;  // of one KV head
};

}  // namespace

std::int32_t num_row_chunks(std::int32_t num_rows, std::int32_t group) {
  const std::int32_t most = RunFinder::max_chunk_rows(group);
  return (num_rows + most - 1) / most;
}

SharedRuns find_shared_runs(const DecodeBatch& batch) {
  if (batch.block_table.empty()) {
    return {.rows = {}, .runs = {}, .shared_len = std::vector<std::int32_t>(batch.kv_lens.size(), 0)};
  }
  return RunFinder(batch).find();
}

}  // namespace blendserve::cuda
