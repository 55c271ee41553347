#include "bindings/bindings.h"

namespace py = pybind11;

PYBIND11_MODULE(_core, m) {
  m.doc() = "The C++ core of blendserve.";
  m.attr("__version__") = BLENDSERVE_VERSION;
  blendserve::bindings::register_exceptions(m);
  blendserve::bindings::register_kernels(m);
}
