#include "kernels/cpu/attention_tiles.h"

#include <algorithm>
#include <limits>

namespace blendserve::cpu {

namespace {

constexpr std::int32_t kMaxTileRows = 96;  // enough to hide the unpacking of K and V
constexpr std::int64_t kTasksPerThread = 8;

// Those of the first KV head.
std::vector<Tile> list_tiles(const PagedAttentionParams& params) {
  const std::int32_t group = params.num_heads / params.layout.num_kv_heads;
  const std::int32_t window = params.window > 0 ? params.window : std::numeric_limits<std::int32_t>::max();
  const std::int32_t tile_tokens = std::max(1, kMaxTileRows / group);
  std::vector<Tile> tiles;
  for (std::int32_t seq = 0; seq < params.num_seqs; ++seq) {
    const std::int32_t begin = params.qo_indptr[seq];
    const std::int32_t end = params.qo_indptr[seq + 1];
    for (std::int32_t token = begin; token < end; token += tile_tokens) {
      tiles.push_back({.seq = seq,
                       .first_token = token,
                       .num_tokens = std::min(tile_tokens, end - token),
                       .first_len = params.kv_lens[seq] - (end - token) + 1,
                       .window = window});
    }
  }
  return tiles;
}

// Of a tile: as many as make up a share of all splits, the heads being dealt out evenly.
std::int32_t heads_of(const Tile& tile, std::int32_t num_kv_heads, std::int64_t share) {
  if (tile.num_tokens > 1) {
    return 1;
  }
  const std::int64_t most = std::clamp<std::int64_t>(share / tile.num_splits(), 1, num_kv_heads);
  const std::int64_t num_tiles = (num_kv_heads + most - 1) / most;
  return static_cast<std::int32_t>((num_kv_heads + num_tiles - 1) / num_tiles);
}

void add_heads(const Tile& tile, std::int32_t num_kv_heads, std::int32_t heads, std::vector<Tile>& tiles) {
  for (std::int32_t head = 0; head < num_kv_heads; head += heads) {
    tiles.push_back(tile);
    tiles.back().kv_head = head;
    tiles.back().num_kv_heads = std::min(heads, num_kv_heads - head);
  }
}

}  // namespace

TilePlan plan_tiles(const PagedAttentionParams& params, int num_threads) {
  const std::vector<Tile> tiles = list_tiles(params);
  const std::int32_t num_kv_heads = params.layout.num_kv_heads;
  std::int64_t num_splits = 0;
  for (const Tile& tile : tiles) {
    num_splits += std::int64_t{tile.num_splits()} * num_kv_heads;
  }
  const std::int64_t num_shares = num_threads == 1 ? 1 : kTasksPerThread * num_threads;
  const std::int64_t share = std::max<std::int64_t>(1, num_splits / num_shares);
  TilePlan plan;
  for (const Tile& tile : tiles) {
    add_heads(tile, num_kv_heads, heads_of(tile, num_kv_heads, share), plan.tiles);
  }
  // Only a tile with more than its share is cut, so there are few and the workspace stays small.
  const std::int32_t group = params.num_heads / params.layout.num_kv_heads;
  for (std::size_t i = 0; i < plan.tiles.size(); ++i) {
    Tile& tile = plan.tiles[i];
    const bool cut = tile.num_splits() > share;
    if (cut) {
      tile.partials_at = plan.workspace_len;
      plan.workspace_len += tile.num_splits() * partial_len(tile.num_rows(group), params.layout.head_dim);
      plan.cut_tiles.push_back(static_cast<std::int32_t>(i));
    }
    const std::int32_t run = cut ? static_cast<std::int32_t>(share) : tile.num_splits();
    const std::int32_t end = tile.end_split();
    for (std::int32_t split = tile.first_split(0); split < end; split += run) {
      plan.tasks.push_back(
          {.tile = static_cast<std::int32_t>(i), .first_split = split, .end_split = std::min(end, split + run)});
    }
  }
  return plan;
}

}  // namespace blendserve::cpu
