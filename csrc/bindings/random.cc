#include <pybind11/numpy.h>

#include <cstdint>
#include <string>

#include "base/error.h"
#include "base/rng.h"
#include "bindings/bindings.h"

namespace py = pybind11;

namespace blendserve::bindings {

namespace {

// No forcecast: NumPy may widen (int32 counters), never reinterpret (signed keys, floats).
using Keys = py::array_t<std::uint64_t, py::array::c_style>;
using Counters = py::array_t<std::int64_t, py::array::c_style>;

py::array_t<double> random_uniforms(const Keys& keys, const Counters& counters) {
  if (keys.ndim() != 1 || counters.ndim() != 1 || keys.size() != counters.size()) {
    throw InvalidInput("keys and counters must be one-dimensional and of one length; they have " +
                       std::to_string(keys.ndim()) + " and " + std::to_string(counters.ndim()) + " dimensions, " +
                       std::to_string(keys.size()) + " and " + std::to_string(counters.size()) + " elements");
  }
  py::array_t<double> uniforms(keys.size());
  const std::uint64_t* key = keys.data();
  const std::int64_t* counter = counters.data();
  double* uniform = uniforms.mutable_data();
  const py::ssize_t size = keys.size();
  {
    const py::gil_scoped_release release;
    for (py::ssize_t i = 0; i < size; ++i) {
      uniform[i] = random_uniform(key[i], static_cast<std::uint64_t>(counter[i]));
    }
  }
  return uniforms;
}

}  // namespace

void register_random(py::module_& m) {
  m.def("random_uniforms", &random_uniforms, py::arg("keys"), py::arg("counters"),
        "Draw `counters[i]` of the stream `keys[i]`: keys uint64 [M], counters int64 [M] -> float64 [M] in [0, 1). "
        "A pure function; raises ValueError when the shapes differ.");
}

}  // namespace blendserve::bindings
