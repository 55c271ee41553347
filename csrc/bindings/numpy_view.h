#pragma once

#include <pybind11/numpy.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace blendserve::bindings {

// A one-dimensional contiguous array of exactly T, not copied; any other array is a ValueError that names `name`.
template <typename T>
std::span<const T> span_of(const pybind11::array& array, const char* name) {
  namespace py = pybind11;
  const auto wanted = py::dtype::of<T>();
  if (!array.dtype().is(wanted) && !array.dtype().equal(wanted)) {
    throw py::value_error(std::string(name) + " has dtype " + std::string(py::str(array.dtype())) + "; it must be " +
                          std::string(py::str(wanted)) + ": convert it with astype");
  }
  if (array.ndim() != 1 || (array.shape(0) > 1 && array.strides(0) != static_cast<py::ssize_t>(sizeof(T)))) {
    throw py::value_error(std::string(name) + " must be one-dimensional and contiguous");
  }
  if (reinterpret_cast<std::uintptr_t>(array.data()) % alignof(T) != 0) {
    throw py::value_error(std::string(name) + " is not aligned to its elements; copy it");
  }
  return {static_cast<const T*>(array.data()), static_cast<std::size_t>(array.shape(0))};
}

// A read-only view of `values`, which `owner` keeps alive.
template <typename T>
pybind11::array view_of(const std::vector<T>& values, pybind11::handle owner) {
  pybind11::array_t<T> view(static_cast<pybind11::ssize_t>(values.size()), values.data(), owner);
  view.attr("setflags")(pybind11::arg("write") = false);
  return view;
}

template <typename T>
pybind11::array copy_of(const std::vector<T>& values) {
  return pybind11::array_t<T>(static_cast<pybind11::ssize_t>(values.size()), values.data());
}

}  // namespace blendserve::bindings
