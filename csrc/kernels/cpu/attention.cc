#include "kernels/cpu/attention.h"

#include <cmath>
#include <string>
#include <vector>

#include "base/error.h"
#include "kernels/cpu/attention_tile_run.h"
#include "kernels/cpu/attention_tiles.h"

namespace blendserve::cpu {

namespace {

[[noreturn]] void refuse(const char* name, std::int64_t index, std::int64_t value, const std::string& remedy) {
  throw InvalidInput(std::string(name) + "[" + std::to_string(index) + "] is " + std::to_string(value) + "; " + remedy);
}

void check_indptr(const char* name, const std::int32_t* indptr, std::int32_t n) {
  if (indptr[0] != 0) {
    refuse(name, 0, indptr[0], "it must be 0");
  }
  for (std::int32_t i = 0; i < n; ++i) {
    if (indptr[i + 1] < indptr[i]) {
      refuse(name, i + 1, indptr[i + 1], "it must not be less than the one before (" + std::to_string(indptr[i]) + ")");
    }
  }
}

void check(const PagedAttentionParams& params) {
  const KvLayout& layout = params.layout;
  if (params.num_heads < 1 || layout.num_kv_heads < 1 || params.num_heads % layout.num_kv_heads != 0) {
    throw InvalidInput("there are " + std::to_string(params.num_heads) + " query heads and " +
                       std::to_string(layout.num_kv_heads) + " KV heads; the first must be a multiple of the second");
  }
  if (layout.head_dim < 1 || layout.block_size < 1) {
    throw InvalidInput("head_dim is " + std::to_string(layout.head_dim) + " and block_size " +
                       std::to_string(layout.block_size) + "; both must be 1 or more");
  }
  if (params.window < 0 || !(params.softcap >= 0.0F) || std::isinf(params.softcap)) {
    throw InvalidInput("window is " + std::to_string(params.window) + " and softcap " + std::to_string(params.softcap) +
                       "; both must be positive and finite, or 0 for none");
  }
  check_indptr("qo_indptr", params.qo_indptr, params.num_seqs);
  check_indptr("block_indptr", params.block_indptr, params.num_seqs);
  if (params.qo_indptr[params.num_seqs] != params.num_tokens) {
    refuse("qo_indptr", params.num_seqs, params.qo_indptr[params.num_seqs],
           "it must be the number of rows of q (" + std::to_string(params.num_tokens) + ")");
  }
  for (std::int32_t s = 0; s < params.num_seqs; ++s) {
    const std::int32_t qo_len = params.qo_indptr[s + 1] - params.qo_indptr[s];
    if (params.kv_lens[s] < qo_len) {
      refuse("kv_lens", s, params.kv_lens[s], "the sequence has " + std::to_string(qo_len) + " query tokens alone");
    }
    const std::int64_t room = std::int64_t{params.block_indptr[s + 1] - params.block_indptr[s]} * layout.block_size;
    if (params.kv_lens[s] > room) {
      refuse("kv_lens", s, params.kv_lens[s], "its blocks hold " + std::to_string(room) + " positions");
    }
  }
  for (std::int32_t i = 0; i < params.block_indptr[params.num_seqs]; ++i) {
    if (params.block_table[i] < 0 || params.block_table[i] >= layout.num_blocks) {
      refuse("block_table", i, params.block_table[i],
             "the cache has blocks 0 to " + std::to_string(layout.num_blocks - 1));
    }
  }
}

}  // namespace

void paged_attention(const PagedAttentionParams& params, ThreadPool& pool) {
  check(params);
  const TilePlan plan = plan_tiles(params, pool.num_threads());
  std::vector<float> workspace(static_cast<std::size_t>(plan.workspace_len));
  pool.parallel_for(static_cast<std::int64_t>(plan.tasks.size()), [&](std::int64_t i) {
    const TileTask& task = plan.tasks[static_cast<std::size_t>(i)];
    const Tile& tile = plan.tiles[static_cast<std::size_t>(task.tile)];
    TileRun run(params, tile);
    if (tile.partials_at < 0) {
      run.attend();
    } else {
      run.attend_partly(task.first_split, task.end_split, workspace.data());
    }
  });
  pool.parallel_for(static_cast<std::int64_t>(plan.cut_tiles.size()), [&](std::int64_t i) {
    const auto tile = static_cast<std::size_t>(plan.cut_tiles[static_cast<std::size_t>(i)]);
    TileRun(params, plan.tiles[tile]).merge_partials(workspace.data());
  });
}

}  // namespace blendserve::cpu
