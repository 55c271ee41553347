#include "sim/run_recorder.h"

#include <pybind11/pybind11.h>

#include "bindings/bindings.h"
#include "bindings/timeline_columns.h"

namespace py = pybind11;

namespace blendserve::bindings {

void register_run_recorder(py::module_& m) {
  py::class_<RunRecorder>(m, "RunRecorder",
                          "The timeline of a run in at most max_bins stretches of about the same duration.")
      .def(py::init<std::size_t>(), py::arg("max_bins"))
      .def("add", &RunRecorder::add, py::arg("scheduler"), py::arg("plan"), py::arg("predicted"), py::arg("duration_s"),
           "After `scheduler` was updated with `plan`: what the step took, beside what it should take.")
      .def_property_readonly(
          "timeline", [](const RunRecorder& self) { return columns_of(self.bins()); },
          "Stretches of the run as columns, float64: duration_s, measured; predicted_s, compute_s, memory_s, by the "
          "performance model; steps, prompt_tokens, cached_tokens, output_tokens, preemptions; running_s, "
          "held_tokens_s and memory_tokens_s are running requests, and tokens of KV cache, times seconds.");
}

}  // namespace blendserve::bindings
