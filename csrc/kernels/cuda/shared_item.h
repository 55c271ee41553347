#pragma once

#include "kernels/cuda/decode_plan_view.h"
#include "kernels/cuda/host_device.h"

// Who computes what of a shared item: the queries of its members, KV group by KV group, are numbered through and cut
// into slices of 16. The warps of a CTA take the slices side by side; where there are fewer slices than warps, several
// warps
// ("lanes") have the same slice and take the tiles in turns.
namespace blendserve::cuda {

inline constexpr int kSliceQueries = 16;
inline constexpr int kMaxSharedQueries = kDecodeWarps * kSliceQueries;  // of one item

// A round is one tile for each warp to copy: tile `slot` of it by warp `slot`. A slice's lane l multiplies the tiles of
// slots l, l + num_lanes, ...
inline constexpr int kRoundTokens = kDecodeWarps * kDecodeTileTokens;

struct WarpGrid {
  int num_slices;
  int num_lanes;  // warps of a slice: those from slice * num_lanes on

  BLENDSERVE_HOST_DEVICE explicit constexpr WarpGrid(int num_queries) : num_slices(1) {
    while (num_slices * kSliceQueries < num_queries) {
      num_slices *= 2;
    }
    num_lanes = kDecodeWarps / num_slices;
  }
  BLENDSERVE_HOST_DEVICE constexpr int slice(int warp) const { return warp / num_lanes; }
  BLENDSERVE_HOST_DEVICE constexpr int lane(int warp) const { return warp % num_lanes; }

  // An item is cut between steps: in one step every warp multiplies one tile, and num_lanes tiles are read. In shared
  // memory, what costs most, each tile is written once and read by every slice.
  constexpr int step_tokens() const { return num_lanes * kDecodeTileTokens; }
  constexpr int step_cost() const { return num_lanes + kDecodeWarps; }
};

// Query `query` of a shared item.
struct SharedQuery {
  int member;
  int head;  // within the KV group

  BLENDSERVE_HOST_DEVICE constexpr SharedQuery(int query, int group) : member(query / group), head(query % group) {}
};

}  // namespace blendserve::cuda
