#include "kernels/cpu/gemm.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <limits>
#include <vector>

#include "kernels/cpu/gemm_worker.h"
#include "kernels/cpu/row_kernels.h"

namespace blendserve::cpu {

namespace {

// How an output is shared out: tasks of some rows by a group of neighbouring panels, rows outermost.
struct Tasks {
  Tasks(std::int32_t rows, const PackedMatrix& weights, int num_threads) : num_rows(rows) {
    // Rows whose inputs stay in the L2 cache while panel after panel passes by, but enough of them that reading the
    // panels again for the next rows costs nothing.
    constexpr std::int64_t kCachedFloats = std::int64_t{1} << 17;
    constexpr std::int64_t kMinRows = 56;
    const std::int64_t most_rows = std::max(kMinRows, kCachedFloats / weights.num_inputs());
    const std::int64_t num_chunks = (rows + most_rows - 1) / most_rows;
    rows_each = static_cast<std::int32_t>((rows + num_chunks - 1) / std::max<std::int64_t>(1, num_chunks));
    // Enough tasks that a thread which comes late or is held up leaves its share to others.
    constexpr std::int64_t kTasksPerThread = 8;
    num_panels = weights.num_panels();
    panels_each = std::max<std::int64_t>(1, num_panels / (num_threads * kTasksPerThread));
    num_groups = (num_panels + panels_each - 1) / panels_each;
    num_tasks = num_chunks * num_groups;
  }

  std::int32_t num_rows;
  std::int32_t rows_each;
  std::int64_t num_panels;
  std::int64_t panels_each;
  std::int64_t num_groups;
  std::int64_t num_tasks;
};

// Some rows of one panel, computed up to the bias.
struct Tile {
  std::int64_t group;
  std::int32_t first_row;
  std::int32_t num_rows;
  std::int64_t first_output;
  std::int64_t num_outputs;
  PanelSums values;  // [num_rows, num_outputs]
};

PanelSums out_of(const GemmParams& params, const Tile& tile) {
  return {params.out + tile.first_row * params.out_stride + tile.first_output, params.out_stride};
}

void scale_and_add_bias(const Tile& tile, const float* scales, const float* bias) {
  for (std::int32_t r = 0; r < tile.num_rows; ++r) {
    float* values = tile.values.row(r);
    for (std::int64_t c = 0; scales != nullptr && c < tile.num_outputs; ++c) {
      values[c] *= scales[tile.first_output + c];
    }
    for (std::int64_t c = 0; bias != nullptr && c < tile.num_outputs; ++c) {
      values[c] += bias[tile.first_output + c];
    }
  }
}

// Calls finish(tile) for every tile of a · weights^T + bias, from all threads; those of a group from left to right.
// A tile that nothing is added to is computed where it belongs in `out`, and not passed on.
template <class Finish>
void for_each_tile(const GemmParams& params, const Tasks& tasks, ThreadPool& pool, const Finish& finish) {
  const PackedMatrix& weights = *params.weights;
  std::atomic<std::int64_t> next{0};
  pool.parallel_for(std::min<std::int64_t>(pool.num_threads(), tasks.num_tasks), [&](std::int64_t) {
    GemmWorker& worker = GemmWorker::local();
    Tile tile{.group = 0, .first_row = -1, .num_rows = 0, .first_output = 0, .num_outputs = 0, .values = {}};
    for (std::int64_t task; (task = next.fetch_add(1, std::memory_order_relaxed)) < tasks.num_tasks;) {
      const auto first_row = static_cast<std::int32_t>(task / tasks.num_groups) * tasks.rows_each;
      if (first_row != tile.first_row) {
        tile.first_row = first_row;
        tile.num_rows = std::min(tasks.rows_each, tasks.num_rows - first_row);
        worker.load_rows(params.a + first_row * params.a_stride, params.a_stride, tile.num_rows, weights.num_inputs());
      }
      tile.group = task % tasks.num_groups;
      const std::int64_t first_panel = tile.group * tasks.panels_each;
      const std::int64_t end_panel = std::min(first_panel + tasks.panels_each, tasks.num_panels);
      for (std::int64_t panel = first_panel; panel < end_panel; ++panel) {
        tile.first_output = panel * kPanelWidth;
        tile.num_outputs = std::min(kPanelWidth, weights.num_outputs() - tile.first_output);
        const bool in_place = params.out != nullptr && !params.accumulate && tile.num_outputs == kPanelWidth;
        tile.values = in_place ? out_of(params, tile) : worker.sums();
        worker.multiply(weights, panel, tile.values);
        scale_and_add_bias(tile, weights.scales(), params.bias);
        if (!in_place) {
          finish(tile);
        }
      }
    }
  });
}

// The largest value of a row so far.
struct Best {
  float value = -std::numeric_limits<float>::infinity();
  std::int32_t output = 0;

  void update(const float* values, std::int64_t num_outputs, std::int64_t first_output) {
    if (!row_kernels().any_above(values, value, num_outputs)) {  // larger ones are rare
      return;
    }
    for (std::int64_t c = 0; c < num_outputs; ++c) {
      if (is_larger(values[c], value)) {
        *this = {values[c], static_cast<std::int32_t>(first_output + c)};
      }
    }
  }
};

}  // namespace

void gemm(const GemmParams& params, ThreadPool& pool) {
  const Tasks tasks(params.num_rows, *params.weights, pool.num_threads());
  for_each_tile(params, tasks, pool, [&](const Tile& tile) {
    for (std::int32_t r = 0; r < tile.num_rows; ++r) {
      const float* values = tile.values.row(r);
      float* out = out_of(params, tile).row(r);
      if (params.accumulate) {
        std::transform(values, values + tile.num_outputs, out, out, std::plus<>());
      } else {
        std::copy_n(values, tile.num_outputs, out);
      }
    }
  });
}

void gemm_argmax(const float* a, std::int64_t a_stride, std::int32_t num_rows, const PackedMatrix& weights,
                 const float* bias, std::int32_t* best, ThreadPool& pool) {
  const Tasks tasks(num_rows, weights, pool.num_threads());
  std::vector<Best> best_of_groups(static_cast<std::size_t>(tasks.num_groups * num_rows));
  const GemmParams params{.a = a, .a_stride = a_stride, .num_rows = num_rows, .weights = &weights, .bias = bias};
  for_each_tile(params, tasks, pool, [&](const Tile& tile) {
    Best* rows = best_of_groups.data() + tile.group * num_rows + tile.first_row;
    for (std::int32_t r = 0; r < tile.num_rows; ++r) {
      rows[r].update(tile.values.row(r), tile.num_outputs, tile.first_output);
    }
  });
  for (std::int32_t row = 0; row < num_rows; ++row) {
    Best whole;
    for (std::int64_t group = 0; group < tasks.num_groups; ++group) {
      const Best& part = best_of_groups[static_cast<std::size_t>(group * num_rows + row)];
      whole.update(&part.value, 1, part.output);
    }
    best[row] = whole.output;
  }
}

}  // namespace blendserve::cpu
