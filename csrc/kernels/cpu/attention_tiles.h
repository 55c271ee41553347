#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/attention_split.h"

namespace blendserve::cpu {

// Consecutive query tokens of one sequence and the query heads of one KV head: they share every load of K and V.
// Row r is token r / group and query head r % group of the group.
struct Tile {
  std::int32_t seq = 0;
  std::int32_t kv_head = 0;
  std::int32_t first_token = 0;  // row of q
  std::int32_t num_tokens = 0;
  std::int32_t first_len = 0;     // positions the first token attends to; each next token one more
  std::int64_t partials_at = -1;  // for a tile cut into several tasks: where its partials start in the workspace

  std::int32_t num_positions() const { return first_len + num_tokens - 1; }
  std::int32_t num_splits() const { return (num_positions() + kSplitLen - 1) / kSplitLen; }

  // The first token that reaches into a split; all later ones do.
  std::int32_t first_token_in(std::int32_t split) const { return std::max(0, split * kSplitLen + 1 - first_len); }
};

// A run of splits of one tile: all of them, or part of a tile that is cut.
struct TileTask {
  std::int32_t tile = 0;
  std::int32_t first_split = 0;
  std::int32_t end_split = 0;
};

struct TilePlan {
  std::vector<Tile> tiles;
  std::vector<TileTask> tasks;
  std::vector<std::int32_t> cut_tiles;  // their partials remain to be merged
  std::int64_t workspace_len = 0;       // floats for all partials of cut tiles
};

// The work of one call. How it is cut depends on the number of threads; the results do not.
TilePlan plan_tiles(const PagedAttentionParams& params, int num_threads);

// Floats for the PartialRows of one tile, in whole cache lines.
constexpr std::int64_t whole_lines(std::int64_t num_floats) { return (num_floats + 15) / 16 * 16; }
constexpr std::int64_t partial_len(std::int64_t num_rows, std::int32_t head_dim) {
  return whole_lines(2 * num_rows) + whole_lines(num_rows * padded(head_dim));
}

}  // namespace blendserve::cpu
