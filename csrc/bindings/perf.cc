#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <utility>

#include "base/error.h"
#include "bindings/bindings.h"
#include "bindings/execution.h"
#include "perf/bounds.h"
#include "perf/checks.h"
#include "perf/cost_model.h"
#include "perf/memory_partition.h"
#include "perf/step_time.h"
#include "perf/time_corrector.h"

namespace py = pybind11;

namespace blendserve::bindings {
namespace {

void register_batch(py::module_& m) {
  py::class_<BatchDesc>(m, "BatchDesc", "What the time of a step depends on.")
      .def(py::init<>())
      .def_readonly("num_prefill_tokens", &BatchDesc::num_prefill_tokens)
      .def_readonly("prefill_squares", &BatchDesc::prefill_squares, "Sum of (ctx + x)**2 - ctx**2.")
      .def_readonly("num_decodes", &BatchDesc::num_decodes)
      .def_readonly("decode_kv_tokens", &BatchDesc::decode_kv_tokens)
      .def_readonly("num_logit_rows", &BatchDesc::num_logit_rows, "They pass the LM head; the decodes among them.")
      .def(
          "add_chunk",
          [](BatchDesc& self, std::int64_t ctx, std::int64_t x) {
            require(ctx >= 0, "ctx", ctx, "0 or more");
            require_at_least_one("x", x);
            self.add_chunk(ctx, x);
          },
          py::arg("ctx"), py::arg("x"), "x tokens of a prompt after its ctx first ones.")
      .def(
          "add_decode",
          [](BatchDesc& self, std::int64_t len) {
            require_at_least_one("len", len);
            self.add_decode(len);
          },
          py::arg("len"), "A sequence of len tokens, the decoded one included.")
      .def(
          "add_logit_rows",
          [](BatchDesc& self, std::int64_t num_rows) {
            require(num_rows >= 0, "num_rows", num_rows, "0 or more");
            self.add_logit_rows(num_rows);
          },
          py::arg("num_rows"), "Rows of the chunks that pass the LM head.");
  py::class_<StepTime>(m, "StepTime", "Seconds of one step.")
      .def_readonly("compute_s", &StepTime::compute_s)
      .def_readonly("memory_s", &StepTime::memory_s)
      .def_readonly("total_s", &StepTime::total_s);
}

void register_bound(py::module_& m) {
  py::class_<WorkloadSums>(m, "WorkloadSums", "A workload as the sums that its bounds are made of.")
      .def(py::init<>())
      .def_readwrite("num_requests", &WorkloadSums::num_requests)
      .def_readwrite("unique_prompt_tokens", &WorkloadSums::unique_prompt_tokens)
      .def_readwrite("unique_prompt_squares", &WorkloadSums::unique_prompt_squares)
      .def_readwrite("decode_steps", &WorkloadSums::decode_steps, "Sum of d - 1.")
      .def_readwrite("kv_reads", &WorkloadSums::kv_reads, "Tokens.")
      .def_readwrite("unshared_kv_reads", &WorkloadSums::unshared_kv_reads, "Tokens that no other request shares.")
      .def_readwrite("max_output_len", &WorkloadSums::max_output_len)
      .def("add_segment", &WorkloadSums::add_segment, py::arg("begin"), py::arg("end"),
           "Tokens [begin, end) of prompts, a segment of the prefix tree.")
      .def("add_request", py::overload_cast<double, double, double>(&WorkloadSums::add_request), py::arg("prompt_len"),
           py::arg("unshared_len"), py::arg("output_len"),
           "A request's decode steps; the last unshared_len prompt tokens are its own.");
  py::class_<Bound>(m, "Bound", "Lower bounds of the time of a workload, in seconds.")
      .def_readonly("t_comp_s", &Bound::t_comp_s)
      .def_readonly("t_mem_s", &Bound::t_mem_s)
      .def_readonly("ideal_s", &Bound::ideal_s)
      .def_readonly("practical_s", &Bound::practical_s);
}

void register_cost_model(py::module_& m) {
  py::class_<CostModel>(m, "CostModel",
                        "Seconds and bytes of a model on a device; docs/performance_model.md has the formulas.")
      .def(py::init<ModelSpec, DeviceSpec>(), py::arg("model"), py::arg("device"))
      .def_property_readonly("model", &CostModel::model)
      .def_property_readonly("device", &CostModel::device)
      .def_property_readonly("t_tok", &CostModel::t_tok, "Seconds per token.")
      .def_property_readonly("t_head", &CostModel::t_head,
                             "Seconds per generated token besides, for the LM head; 0 on a data sheet's device.")
      .def_property_readonly("t_attn", &CostModel::t_attn, "Seconds per square token of prefill.")
      .def_property_readonly("t_kv", &CostModel::t_kv, "Seconds per KV token that a decode step reads.")
      .def_property_readonly("kv_bytes_per_token", &CostModel::kv_bytes_per_token)
      .def("weight_read_s", &CostModel::weight_read_s, py::arg("num_tokens") = 1.0,
           "W, seconds to read the weights that a batch of num_tokens touches.")
      .def("segment_compute_s", &CostModel::segment_compute_s, py::arg("begin"), py::arg("end"),
           "Seconds to prefill tokens [begin, end) of a prompt.")
      .def("decode_compute_s", &CostModel::decode_compute_s, py::arg("d"))
      .def("compute_s", &CostModel::compute_s, py::arg("p"), py::arg("d"), "Comp of a request that shares nothing.")
      .def(
          "memory_s",
          [](const CostModel& self, double p, double mean_d, std::optional<double> second_moment_d) {
            return self.memory_s(p, mean_d, second_moment_d.value_or(mean_d * mean_d));
          },
          py::arg("p"), py::arg("mean_d"), py::arg("second_moment_d") = py::none(),
          "Mem of a request; None: its length is known, E[d**2] = d**2.")
      .def("kv_capacity_tokens", &CostModel::kv_capacity_tokens,
           "Tokens of KV cache, a multiple of 16; raises ValueError when the model leaves no room.")
      .def(
          "step_time",
          [](const CostModel& self, const BatchDesc& batch, const std::string& execution) {
            return step_time(self, batch, execution_named(execution));
          },
          py::arg("batch"), py::arg("execution") = "overlapped", "execution is overlapped or sequential.")
      .def(
          "bound",
          [](const CostModel& self, const WorkloadSums& sums, std::int64_t num_replicas) {
            return bound(self, sums, num_replicas);
          },
          py::arg("sums"), py::kw_only(), py::arg("num_replicas") = 1, "Bounds over num_replicas times the device.");
  m.def("density", &density, py::arg("compute_s"), py::arg("memory_s"), "Their ratio; inf without memory time.");
  m.def(
      "partition",
      [](double memory, double rho_left, double rho_right, double rho_root) {
        const MemoryPartition sides = partition(memory, rho_left, rho_right, rho_root);
        return std::pair(sides.left, sides.right);
      },
      py::arg("memory"), py::arg("rho_left"), py::arg("rho_right"), py::arg("rho_root"),
      "The dual scanner's (left, right) share of the KV memory, clamped.");
}

void register_time_corrector(py::module_& m) {
  py::class_<TimeCorrection>(m, "TimeCorrection",
                             "How many times as long as the performance model says a device takes: for arithmetic, and "
                             "for reading weights and KV cache.")
      .def(py::init([](double compute, double memory) {
             require_positive("compute", compute);
             require_positive("memory", memory);
             return TimeCorrection{compute, memory};
           }),
           py::arg("compute") = 1.0, py::arg("memory") = 1.0)
      .def_readonly("compute", &TimeCorrection::compute)
      .def_readonly("memory", &TimeCorrection::memory)
      .def(
          "__eq__",
          [](const TimeCorrection& self, const py::object& other) {
            return py::isinstance<TimeCorrection>(other) && self == other.cast<const TimeCorrection&>();
          },
          py::arg("other"))
      .def("__hash__", [](const TimeCorrection& self) { return py::hash(py::make_tuple(self.compute, self.memory)); })
      .def("__repr__", [](const TimeCorrection& self) {
        return "TimeCorrection(compute=" + py::repr(py::float_(self.compute)).cast<std::string>() +
               ", memory=" + py::repr(py::float_(self.memory)).cast<std::string>() + ")";
      });
  py::class_<TimeCorrector>(m, "TimeCorrector",
                            "Learns a TimeCorrection from the steps that a device runs, every so many of them; "
                            "docs/performance_model.md says how. The same steps give the same corrections.")
      .def(py::init([](const CostModel& cost, const std::string& execution) {
             return TimeCorrector(cost, execution_named(execution));
           }),
           py::arg("cost"), py::arg("execution") = "overlapped")
      .def("add", &TimeCorrector::add, py::arg("batch"), py::arg("seconds"),
           "A step took so many seconds, without what the host does between steps. True if the correction has changed.")
      .def_property_readonly("correction", &TimeCorrector::correction, py::return_value_policy::copy);
}

}  // namespace

void register_perf(py::module_& m) {
  register_batch(m);
  register_bound(m);
  register_cost_model(m);
  register_time_corrector(m);
}

}  // namespace blendserve::bindings
