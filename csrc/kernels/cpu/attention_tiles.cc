#include "kernels/cpu/attention_tiles.h"

#include <limits>

namespace blendserve::cpu {

namespace {

constexpr std::int32_t kMaxTileRows = 96;  // enough to hide the unpacking of K and V
constexpr std::int64_t kTasksPerThread = 4;

// KV heads of a tile of one token: all of them, unless that leaves too few tiles.
std::int32_t heads_of_decodes(const PagedAttentionParams& params, int num_threads) {
  std::int64_t num_decodes = 0;
  for (std::int32_t seq = 0; seq < params.num_seqs; ++seq) {
    num_decodes += params.qo_indptr[seq + 1] - params.qo_indptr[seq] == 1 ? 1 : 0;
  }
  const std::int32_t num_kv_heads = params.layout.num_kv_heads;
  const std::int64_t heads = num_decodes * num_kv_heads / (kTasksPerThread * num_threads);
  return static_cast<std::int32_t>(std::clamp<std::int64_t>(heads, 1, num_kv_heads));
}

void list_tiles(const PagedAttentionParams& params, int num_threads, std::vector<Tile>& tiles) {
  const std::int32_t num_kv_heads = params.layout.num_kv_heads;
  const std::int32_t group = params.num_heads / num_kv_heads;
  const std::int32_t window = params.window > 0 ? params.window : std::numeric_limits<std::int32_t>::max();
  const std::int32_t tile_tokens = std::max(1, kMaxTileRows / group);
  const std::int32_t decode_heads = heads_of_decodes(params, num_threads);
  for (std::int32_t seq = 0; seq < params.num_seqs; ++seq) {
    const std::int32_t begin = params.qo_indptr[seq];
    const std::int32_t end = params.qo_indptr[seq + 1];
    const std::int32_t tile_heads = end - begin == 1 ? decode_heads : 1;
    for (std::int32_t token = begin; token < end; token += tile_tokens) {
      for (std::int32_t kv_head = 0; kv_head < num_kv_heads; kv_head += tile_heads) {
        tiles.push_back({.seq = seq,
                         .kv_head = kv_head,
                         .num_kv_heads = std::min(tile_heads, num_kv_heads - kv_head),
                         .first_token = token,
                         .num_tokens = std::min(tile_tokens, end - token),
                         .first_len = params.kv_lens[seq] - (end - token) + 1,
                         .window = window});
      }
    }
  }
}

}  // namespace

TilePlan plan_tiles(const PagedAttentionParams& params, int num_threads) {
  TilePlan plan;
  list_tiles(params, num_threads, plan.tiles);
  std::int64_t num_splits = 0;
  for (const Tile& tile : plan.tiles) {
    num_splits += tile.num_splits();
  }
  // Only a tile with more than its share is cut, so there are few and the workspace stays small.
  const std::int64_t share = std::max<std::int64_t>(1, num_splits / (kTasksPerThread * num_threads));
  const std::int32_t group = params.num_heads / params.layout.num_kv_heads;
  for (std::size_t i = 0; i < plan.tiles.size(); ++i) {
    Tile& tile = plan.tiles[i];
    const bool cut = num_threads > 1 && tile.num_splits() > share;
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
