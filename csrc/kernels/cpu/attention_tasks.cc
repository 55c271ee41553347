#include "kernels/cpu/attention_tasks.h"

#include <algorithm>

#include "kernels/cpu/attention_tile_run.h"
#include "kernels/cpu/cache_lines.h"

namespace blendserve::cpu {

AttentionTasks::AttentionTasks(const PagedAttentionParams& params, const TileCut& cut) : params_(params) {
  check(params);
  plan_ = plan_tiles(params, cut);
  workspace_.resize(static_cast<std::size_t>(plan_.workspace_len));
}

std::int64_t AttentionTasks::num_bytes() const {
  std::int64_t num_positions = 0;
  for (const TileTask& task : plan_.tasks) {
    const auto [begin, end] = positions(task);
    num_positions += end - begin;
  }
  return num_positions * 2 * params_.layout.head_dim * element_bytes(params_.kv_dtype);
}

AttentionTasks::Positions AttentionTasks::positions(const TileTask& task) const {
  const Tile& of = tile(task.tile);
  return {std::max(of.first_position(0), task.first_split * kSplitLen),
          std::min(of.num_positions(), task.end_split * kSplitLen)};
}

void AttentionTasks::run(std::int64_t index) {
  const TileTask& task = plan_.tasks[static_cast<std::size_t>(index)];
  TileRun run(params_, tile(task.tile));
  if (tile(task.tile).partials_at < 0) {
    run.attend();
  } else {
    run.attend_partly(task.first_split, task.end_split, workspace_.data());
  }
}

void AttentionTasks::merge(ThreadPool& pool) {
  pool.parallel_for(static_cast<std::int64_t>(plan_.cut_tiles.size()), [&](std::int64_t i) {
    TileRun(params_, tile(plan_.cut_tiles[static_cast<std::size_t>(i)])).merge_partials(workspace_.data());
  });
}

void AttentionTasks::list_memory(std::int64_t index, std::vector<const std::byte*>& pieces) const {
  const TileTask& task = plan_.tasks[static_cast<std::size_t>(index)];
  const Tile& of = tile(task.tile);
  const KvLayout& layout = params_.layout;
  const auto* kv = static_cast<const std::byte*>(params_.kv);
  const std::int64_t row_bytes = layout.head_dim * element_bytes(params_.kv_dtype);
  const BlockId* blocks = params_.block_table + params_.block_indptr[of.seq];
  const auto [begin, end] = positions(task);
  for (std::int32_t position = begin, len = 0; position < end; position += len) {
    const std::int32_t offset = position % layout.block_size;
    len = std::min(layout.block_size - offset, end - position);
    const BlockId block = blocks[position / layout.block_size];
    for (const std::int64_t first : {layout.k_offset(block, of.kv_head), layout.v_offset(block, of.kv_head)}) {
      const std::byte* run = kv + first * element_bytes(params_.kv_dtype) + offset * row_bytes;
      for (std::int64_t i = 0; i < len * row_bytes; i += kPieceBytes) {
        pieces.push_back(run + i);
      }
    }
  }
}

}  // namespace blendserve::cpu
