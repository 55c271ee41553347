#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cuda/decode_plan_view.h"
#include "kernels/cuda/shared_runs.h"

namespace blendserve::cuda {

struct DecodeBatch;

// The work of the kernel that reads shared runs.
struct SharedPlan {
  std::vector<std::int32_t> cta_indptr;  // [num_ctas + 1]
  std::vector<SharedItem> items;
  std::vector<SharedMember> members;    // partial: which of its (row, KV head) pair's, in order of position
  std::vector<std::int32_t> num_parts;  // [num_rows, num_kv_heads] partial results of each pair
};

// Lays all (KV head, run, chunk of rows) end to end and gives each CTA a stretch of equal cost, up to a step. Chunks of
// one run are neighbours: CTAs that read the same keys and values do so at about the same time.
SharedPlan plan_shared(const DecodeBatch& batch, const SharedRuns& shared);

}  // namespace blendserve::cuda
