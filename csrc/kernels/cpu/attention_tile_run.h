#pragma once

#include <cstdint>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/attention_split.h"
#include "kernels/cpu/attention_tiles.h"

namespace blendserve::cpu {

struct ThreadBuffers;

// One tile of a call, worked on by one thread at a time in that thread's own memory. The params and the tile outlive
// it.
class TileRun {
 public:
  TileRun(const PagedAttentionParams& params, const Tile& tile);

  // All splits of the tile, merged as they come.
  void attend();

  // Some splits of a cut tile, each to its own place in the workspace of the plan.
  void attend_partly(std::int32_t first_split, std::int32_t end_split, float* workspace);

  // The end of a cut tile, once all its splits are in the workspace.
  void merge_partials(float* workspace);

 private:
  // Rows [begin, end) of the tile.
  struct RowRange {
    std::int32_t begin;
    std::int32_t end;
  };

  PartialRows partial(float* workspace, std::int32_t split) const;
  std::int64_t first_column() const { return std::int64_t{tile_.kv_head} * group_ * head_dim_; }
  std::int64_t element_size() const { return params_.kv_dtype == KvDtype::kFloat32 ? 4 : 2; }
  std::int32_t token_of(std::int32_t row) const { return tile_.num_tokens == 1 ? 0 : row / group_; }
  RowRange rows_in(std::int32_t split) const;  // that attend to positions of it
  void load_q();
  void attend_split(std::int32_t split, const PartialRows& out);
  void point_to_rows(std::int32_t split);
  void merge(std::int32_t split, const PartialRows& part);
  void write_out(const PartialRows& rows);

  const PagedAttentionParams& params_;
  const Tile& tile_;
  ThreadBuffers& buffers_;
  std::int32_t head_dim_;
  std::int32_t group_;     // query heads of one KV head
  std::int32_t num_rows_;  // of the tile
  float exponent_cap_;     // of SplitInputs
  float* q_ = nullptr;     // [num_rows, head_dim] times scale · log2(e), or scale / softcap
  PartialRows total_;
  PartialRows part_;
  float* scratch_ = nullptr;
};

}  // namespace blendserve::cpu
