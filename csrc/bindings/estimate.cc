#include <pybind11/pybind11.h>

#include <string>

#include "base/error.h"
#include "bindings/bindings.h"
#include "bindings/numpy_view.h"
#include "estimate/choose_sample.h"

namespace py = pybind11;

namespace blendserve::bindings {
namespace {

SampleMethod method_of(const std::string& name) {
  if (name == "uniform") return SampleMethod::kUniform;
  if (name == "memory") return SampleMethod::kMemoryVariance;
  throw InvalidInput("method is '" + name + "'; it must be 'uniform' or 'memory'");
}

py::array choose_samples(const PrefixTree& tree, double rate, std::uint64_t seed, const std::string& method) {
  const SampleConfig config{.rate = rate, .seed = seed, .method = method_of(method)};
  LengthSample sample;
  {
    const py::gil_scoped_release release;
    sample = choose_sample(tree, config);
  }
  return copy_of(sample.rows);
}

}  // namespace

void register_estimate(py::module_& m) {
  m.def(
      "choose_samples", &choose_samples, py::arg("tree"), py::kw_only(), py::arg("rate") = 0.01, py::arg("seed") = 0,
      py::arg("method") = "uniform",
      "The rows to run first, int32 and ascending, so that the output lengths of the others can be estimated: a share "
      "`rate` of the requests, at least one of every top-level subtree. 'uniform' takes requests alike; 'memory' "
      "prefers those whose memory time is uncertain. The same seed gives the same rows.");
}

}  // namespace blendserve::bindings
