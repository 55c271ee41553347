#include "bindings/timeline_columns.h"

#include <vector>

#include "bindings/numpy_view.h"

namespace py = pybind11;

namespace blendserve::bindings {

py::dict columns_of(std::span<const TimelineBin> bins) {
  const auto column = [&](auto field) {
    std::vector<double> values;
    values.reserve(bins.size());
    for (const TimelineBin& bin : bins) values.push_back(static_cast<double>(bin.*field));
    return copy_of(values);
  };
  py::dict columns;
  columns["duration_s"] = column(&TimelineBin::duration_s);
  columns["predicted_s"] = column(&TimelineBin::predicted_s);
  columns["compute_s"] = column(&TimelineBin::compute_s);
  columns["memory_s"] = column(&TimelineBin::memory_s);
  columns["steps"] = column(&TimelineBin::num_steps);
  columns["prompt_tokens"] = column(&TimelineBin::num_prompt_tokens);
  columns["cached_tokens"] = column(&TimelineBin::num_cached_tokens);
  columns["output_tokens"] = column(&TimelineBin::num_output_tokens);
  columns["preemptions"] = column(&TimelineBin::num_preemptions);
  columns["running_s"] = column(&TimelineBin::running_s);
  columns["held_tokens_s"] = column(&TimelineBin::held_tokens_s);
  columns["memory_tokens_s"] = column(&TimelineBin::memory_tokens_s);
  return columns;
}

}  // namespace blendserve::bindings
