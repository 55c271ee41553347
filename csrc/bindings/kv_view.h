#pragma once

#include <pybind11/numpy.h>

#include <cstdint>
#include <string>

#include "base/error.h"
#include "base/kv_layout.h"
#include "bindings/checked_len.h"
#include "bindings/dlpack_view.h"

namespace blendserve::bindings {

// A one-dimensional index array of `len` elements; -1 is any length.
template <class T>
const T* indices(const char* name, const pybind11::array& array, std::int64_t len) {
  namespace py = pybind11;
  if (!py::isinstance<py::array_t<T>>(array) || array.ndim() != 1 || (array.flags() & py::array::c_style) == 0) {
    throw InvalidInput(std::string(name) + " must be a contiguous array of dtype int" + std::to_string(8 * sizeof(T)) +
                       " with one dimension");
  }
  if (len >= 0 && array.size() != len) {
    throw InvalidInput(std::string(name) + " has " + std::to_string(array.size()) + " elements; it must have " +
                       std::to_string(len));
  }
  return static_cast<const T*>(array.data());
}

// The paged cache of one layer, borrowed.
struct KvView {
  explicit KvView(const pybind11::object& object) : view("kv", object) {
    view.require_shape("[num_blocks, 2, num_kv_heads, block_size, head_dim]", {-1, 2, -1, -1, -1});
    view.require_dense_from(0);
    dtype = view.require_dtype({kDlFloat32, kDlBFloat16}) == kDlBFloat16 ? KvDtype::kBFloat16 : KvDtype::kFloat32;
    layout = {.num_blocks = checked_len("kv", view.size(0)),
              .num_kv_heads = checked_len("kv", view.size(2)),
              .block_size = checked_len("kv", view.size(3)),
              .head_dim = checked_len("kv", view.size(4))};
  }

  DlpackView view;
  KvLayout layout;
  KvDtype dtype;
};

}  // namespace blendserve::bindings
