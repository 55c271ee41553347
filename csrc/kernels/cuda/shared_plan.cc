#include "kernels/cuda/shared_plan.h"

#include <algorithm>

#include "kernels/cuda/decode_plan.h"
#include "kernels/cuda/grid_cut.h"
#include "kernels/cuda/shared_item.h"

namespace blendserve::cuda {
namespace {

// One run for some of its rows: few enough that one CTA holds their queries.
struct RowChunk {
  SharedRun run;
  std::int32_t row_begin;
  std::int32_t row_end;
  WarpGrid grid;

  std::int64_t num_steps() const {
    const int step = grid.step_tokens();
    return (run.kv_end - run.kv_begin + step - 1) / step;
  }
};

std::vector<RowChunk> chunks_of(const std::vector<SharedRun>& runs, std::int32_t group) {
  std::vector<RowChunk> chunks;
  for (const SharedRun& run : runs) {
    const std::int32_t num_chunks = num_row_chunks(run.num_rows(), group);
    for (std::int32_t chunk = 0; chunk < num_chunks; ++chunk) {
      const auto cut = [&](std::int64_t at) {
        return run.row_begin + static_cast<std::int32_t>(run.num_rows() * at / num_chunks);
      };
      chunks.push_back({run, cut(chunk), cut(chunk + 1), WarpGrid((cut(chunk + 1) - cut(chunk)) * group)});
    }
  }
  return chunks;
}

class SharedPlanner {
 public:
  SharedPlanner(const DecodeBatch& batch, const SharedRuns& shared, std::int64_t total_cost)
      : batch_(batch),
        shared_(shared),
        plan_{.cta_indptr = std::vector<std::int32_t>(static_cast<std::size_t>(batch.num_ctas) + 1),
              .items = {},
              .members = {},
              .num_parts =
                  std::vector<std::int32_t>(batch.kv_lens.size() * static_cast<std::size_t>(batch.num_kv_heads))},
        cut_(total_cost, plan_.cta_indptr) {}

  void add(const RowChunk& chunk, std::int32_t kv_head) {
    const int step_tokens = chunk.grid.step_tokens();
    std::int32_t begin = chunk.run.kv_begin;
    for (std::int64_t left = chunk.num_steps(); left > 0;) {
      const auto item = static_cast<std::int32_t>(plan_.items.size());
      const std::int64_t taken = cut_.take(left, chunk.grid.step_cost(), item);
      left -= taken;
      const auto end = static_cast<std::int32_t>(std::min<std::int64_t>(chunk.run.kv_end, begin + taken * step_tokens));
      add_item(chunk, kv_head, begin, end);
      begin = end;
    }
  }

  SharedPlan finish() {
    cut_.close(static_cast<std::int32_t>(plan_.items.size()));
    return std::move(plan_);
  }

 private:
  void add_item(const RowChunk& chunk, std::int32_t kv_head, std::int32_t kv_begin, std::int32_t kv_end) {
    const std::int32_t any_row = shared_.rows[static_cast<std::size_t>(chunk.row_begin)];
    plan_.items.push_back({.kv_head = kv_head,
                           .kv_begin = kv_begin,
                           .kv_end = kv_end,
                           .first_block = batch_.block_indptr[static_cast<std::size_t>(any_row)],
                           .first_member = static_cast<std::int32_t>(plan_.members.size()),
                           .num_members = chunk.row_end - chunk.row_begin,
                           .unused = {0, 0}});
    for (std::int32_t at = chunk.row_begin; at < chunk.row_end; ++at) {
      const std::int32_t row = shared_.rows[static_cast<std::size_t>(at)];
      plan_.members.push_back({row, plan_.num_parts[static_cast<std::size_t>(row * batch_.num_kv_heads + kv_head)]++});
    }
  }

  const DecodeBatch& batch_;
  const SharedRuns& shared_;
  SharedPlan plan_;
  GridCut cut_;
};

}  // namespace

SharedPlan plan_shared(const DecodeBatch& batch, const SharedRuns& shared) {
  const std::vector<RowChunk> chunks = chunks_of(shared.runs, batch.group);
  std::int64_t cost_of_a_head = 0;
  for (const RowChunk& chunk : chunks) {
    cost_of_a_head += chunk.num_steps() * chunk.grid.step_cost();
  }
  SharedPlanner planner(batch, shared, cost_of_a_head * batch.num_kv_heads);
  for (std::int32_t kv_head = 0; kv_head < batch.num_kv_heads; ++kv_head) {
    for (const RowChunk& chunk : chunks) {
      planner.add(chunk, kv_head);
    }
  }
  return planner.finish();
}

}  // namespace blendserve::cuda
