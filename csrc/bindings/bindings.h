#pragma once

#include <pybind11/pybind11.h>

namespace blendserve::bindings {

// One function per source file of this folder; module.cc calls them in order of dependency.
void register_prefix_tree(pybind11::module_& m);
void register_plan(pybind11::module_& m);
void register_scheduler(pybind11::module_& m);
void register_random(pybind11::module_& m);
void register_kernels(pybind11::module_& m);
void register_gemm(pybind11::module_& m);
void register_decoder(pybind11::module_& m);
void register_specs(pybind11::module_& m);
void register_perf(pybind11::module_& m);
void register_run_recorder(pybind11::module_& m);
void register_simulate(pybind11::module_& m);
void register_token_list(pybind11::module_& m);

}  // namespace blendserve::bindings
