#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace blendserve::cuda {

struct DecodeBatch;

// Positions [kv_begin, kv_end), which all of SharedRuns::rows [row_begin, row_end) keep in the same blocks.
struct SharedRun {
  std::int32_t row_begin;
  std::int32_t row_end;
  std::int32_t kv_begin;
  std::int32_t kv_end;

  std::int32_t num_rows() const { return row_end - row_begin; }
};

// What a step reads once for several rows. The runs of a row lie end to end from position 0, and come in this order:
// those of a prefix that all have, then of its continuations that some have.
struct SharedRuns {
  std::vector<std::int32_t> rows;  // sorted so that those of a run are neighbours
  std::vector<SharedRun> runs;
  std::vector<std::int32_t> shared_len;  // of each row of the batch: where its last run ends; less than its kv_len
};

// Shared items that `num_rows` rows take for one range and KV head.
std::int32_t num_row_chunks(std::int32_t num_rows, std::int32_t group);

// Finds rows whose block tables begin alike and keeps the runs that save more bytes of keys and values than their
// partial results cost, as long as those fit into the batch's partial slots; none at all when together they do not make
// up for one more kernel.
SharedRuns find_shared_runs(const DecodeBatch& batch);

}  // namespace blendserve::cuda
