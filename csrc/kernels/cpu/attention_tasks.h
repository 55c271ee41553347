#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/attention_tiles.h"

namespace blendserve::cpu {

// paged_attention() cut into tasks that any threads may run in any order, at the same time. The params outlive it.
class AttentionTasks {
 public:
  // Throws what paged_attention() throws.
  AttentionTasks(const PagedAttentionParams& params, const TileCut& cut);

  std::int64_t num_tasks() const { return static_cast<std::int64_t>(plan_.tasks.size()); }
  std::int64_t num_bytes() const;  // of K and V, counted for each task that reads them
  void run(std::int64_t task);

  // The end, once all tasks have run.
  void merge(ThreadPool& pool);

  // Appends the memory that a task reads, in pieces of kPieceLines cache lines.
  void list_memory(std::int64_t task, std::vector<const std::byte*>& pieces) const;

 private:
  struct Positions {
    std::int32_t begin;
    std::int32_t end;
  };
  Positions positions(const TileTask& task) const;
  const Tile& tile(std::int32_t index) const { return plan_.tiles[static_cast<std::size_t>(index)]; }

  const PagedAttentionParams& params_;
  TilePlan plan_;
  std::vector<float> workspace_;
};

}  // namespace blendserve::cpu
