#include "bindings/bindings.h"

PYBIND11_MODULE(_core, m) {
  m.doc() = "The C++ core of blendserve.";
  m.attr("__version__") = BLENDSERVE_VERSION;
  blendserve::bindings::register_prefix_tree(m);
  blendserve::bindings::register_plan(m);
  blendserve::bindings::register_scheduler(m);
  blendserve::bindings::register_random(m);
  blendserve::bindings::register_kernels(m);
  blendserve::bindings::register_gemm(m);
  blendserve::bindings::register_decoder(m);
  blendserve::bindings::register_specs(m);
  blendserve::bindings::register_perf(m);
  blendserve::bindings::register_run_recorder(m);
  blendserve::bindings::register_simulate(m);
  blendserve::bindings::register_token_list(m);
}
