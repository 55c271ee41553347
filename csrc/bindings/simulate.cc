#include "sim/simulate.h"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "bindings/bindings.h"
#include "bindings/execution.h"
#include "bindings/numpy_view.h"
#include "bindings/timeline_columns.h"
#include "sim/simulated_executor.h"

namespace py = pybind11;

namespace blendserve::bindings {
namespace {

bool has_no_signal() {
  const py::gil_scoped_acquire acquire;
  return PyErr_CheckSignals() == 0;
}

// A plan is copied: what Python keeps of it must not change.
std::function<void(const StepPlan&)> callback_of(const std::optional<py::function>& on_step) {
  if (!on_step) return {};
  return [call = *on_step](const StepPlan& plan) {
    const py::gil_scoped_acquire acquire;
    call(std::make_shared<StepPlan>(plan));
  };
}

Simulation run(StepScheduler& scheduler, const CostModel& cost, const py::array& output_lengths,
               const std::string& execution, bool counts_scheduling, std::size_t timeline_bins,
               const std::optional<py::function>& on_step, TimeCorrector* corrector) {
  const auto lengths = span_of<std::int32_t>(output_lengths, "output_lengths");
  bool is_complete = true;
  const SimulationConfig config{.execution = execution_named(execution),
                                .counts_scheduling = counts_scheduling,
                                .timeline_bins = timeline_bins,
                                .on_step = callback_of(on_step),
                                .corrector = corrector,
                                .goes_on = [&] { return is_complete = has_no_signal(); }};
  Simulation simulation;
  {
    const py::gil_scoped_release release;
    simulation = simulate(scheduler, cost, lengths, config);
  }
  if (!is_complete) throw py::error_already_set();
  return simulation;
}

}  // namespace

void register_simulate(py::module_& m) {
  m.def("batch_of", &batch_of, py::arg("plan"), "What the time of a step depends on.");
  py::class_<Simulation>(m, "Simulation", "A simulated run, in seconds of the simulated clock.")
      .def_readonly("total_s", &Simulation::total_s)
      .def_readonly("compute_s", &Simulation::compute_s, "Sum of the compute time of all steps.")
      .def_readonly("memory_s", &Simulation::memory_s, "Sum of the memory time of all steps.")
      .def_property_readonly("step_schedule_mean_us", [](const Simulation& self) { return self.scheduling.mean_us; })
      .def_property_readonly("step_schedule_p99_us", [](const Simulation& self) { return self.scheduling.p99_us; })
      .def_property_readonly(
          "scheduling_s", [](const Simulation& self) { return self.scheduling.total_s; },
          "CPU seconds of schedule() and update(), measured.")
      .def_property_readonly(
          "timeline", [](const Simulation& self) { return columns_of(self.timeline); },
          "As RunRecorder.timeline; here duration_s is predicted_s, and what is added for scheduling.");
  m.attr("SIMULATED_STOP_TOKEN") = SimulatedExecutor::kStopToken;
  m.def("simulate", &run, py::arg("scheduler"), py::arg("cost"), py::arg("output_lengths"), py::kw_only(),
        py::arg("execution") = "overlapped", py::arg("counts_scheduling") = false, py::arg("timeline_bins") = 0,
        py::arg("on_step") = py::none(), py::arg("corrector") = py::none(),
        "Run the scheduler's requests to the end on a simulated clock. Request i generates output_lengths[i] (int32 "
        "[n]) tokens, the last of them SIMULATED_STOP_TOKEN, which must be its stop token, or its limit be that "
        "length. on_step is called with every StepPlan. A corrector is told of the time of every step, and the "
        "scheduler of its corrections: `cost` may then be another device than the one that was planned for.");
}

}  // namespace blendserve::bindings
