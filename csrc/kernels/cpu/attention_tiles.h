#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/attention_split.h"

namespace blendserve::cpu {

// Consecutive query tokens of one sequence and the query heads of one KV head: they share every load of K and V. Or one
// token and consecutive KV heads, whose K and V lie side by side in every block. Row r is query head r % group of the
// group of a KV head, token r / group or KV head r / group of the tile.
struct Tile {
  std::int32_t seq = 0;
  std::int32_t kv_head = 0;
  std::int32_t num_kv_heads = 1;
  std::int32_t first_token = 0;  // row of q
  std::int32_t num_tokens = 0;
  std::int32_t first_len = 0;     // positions up to the first token's own; each next token one more
  std::int32_t window = 0;        // of these the last `window` are attended to
  std::int64_t partials_at = -1;  // for a tile cut into several tasks: where its partials start in the workspace

  std::int32_t num_rows(std::int32_t group) const { return num_kv_heads * num_tokens * group; }
  std::int32_t num_positions() const { return first_len + num_tokens - 1; }
  std::int32_t first_position(std::int32_t token) const { return std::max(0, first_len + token - window); }

  // Splits [first_split(0), end_split()) are the tile's.
  std::int32_t first_split(std::int32_t token) const { return first_position(token) / kSplitLen; }
  std::int32_t end_split() const { return (num_positions() + kSplitLen - 1) / kSplitLen; }
  std::int32_t num_splits() const { return end_split() - first_split(0); }

  // Tokens [first_token_in(), end_token_in()) attend to positions of a split.
  std::int32_t first_token_in(std::int32_t split) const { return std::max(0, split * kSplitLen + 1 - first_len); }
  std::int32_t end_token_in(std::int32_t split) const {
    const std::int64_t end = std::int64_t{split + 1} * kSplitLen + window - first_len;
    return static_cast<std::int32_t>(std::min<std::int64_t>(num_tokens, end));
  }
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
