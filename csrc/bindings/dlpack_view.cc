#include "bindings/dlpack_view.h"

#include <algorithm>
#include <span>

#include "base/error.h"

namespace py = pybind11;

namespace blendserve::bindings {

namespace {

py::capsule borrow(const char* name, const py::object& object) {
  if (!py::hasattr(object, "__dlpack__")) {
    throw InvalidInput(std::string(name) + " is a " + Py_TYPE(object.ptr())->tp_name +
                       "; pass a tensor with __dlpack__ (torch, numpy, …)");
  }
  try {
    return object.attr("__dlpack__")();
  } catch (const py::error_already_set& error) {
    throw InvalidInput(std::string(name) + " does not lend its memory through __dlpack__: " + error.what() +
                       "; pass a dense tensor that needs no gradient");
  }
}

// "[2, any]", -1 being any length.
std::string to_string(std::span<const std::int64_t> shape) {
  std::string text;
  for (const std::int64_t len : shape) {
    text.append(text.empty() ? "[" : ", ");
    text.append(len < 0 ? "any" : std::to_string(len));
  }
  return text + "]";
}

std::string to_string(DLDataType dtype) {
  constexpr const char* kNames[] = {"int", "uint", "float", "handle", "bfloat", "complex", "bool"};
  const std::string name = dtype.code < std::size(kNames) ? kNames[dtype.code] : "code " + std::to_string(dtype.code);
  return name + std::to_string(dtype.bits);
}

}  // namespace

bool operator==(DLDataType a, DLDataType b) { return a.code == b.code && a.bits == b.bits && a.lanes == b.lanes; }

DlpackView::DlpackView(const char* name, const py::object& object)
    : name_(name), capsule_(borrow(name, object)), tensor_(&capsule_.get_pointer<DLManagedTensor>()->dl_tensor) {
  if (tensor_->device.device_type != kDLCPU) {
    throw InvalidInput(std::string(name) + " is not in CPU memory; move it there first");
  }
}

std::int64_t DlpackView::stride(int dim) const {
  if (tensor_->strides != nullptr && size(dim) > 1) {
    return tensor_->strides[dim];
  }
  std::int64_t dense = 1;
  for (int d = dim + 1; d < ndim(); ++d) {
    dense *= size(d);
  }
  return dense;
}

DLDataType DlpackView::require_dtype(std::initializer_list<DLDataType> expected) const {
  const DLDataType dtype = tensor_->dtype;
  if (std::none_of(expected.begin(), expected.end(), [&](DLDataType one) { return one == dtype; })) {
    std::string names;
    for (const DLDataType one : expected) {
      names.append(names.empty() ? "" : " or ").append(to_string(one));
    }
    throw InvalidInput(std::string(name_) + " has dtype " + to_string(dtype) + "; it must be " + names);
  }
  return dtype;
}

void DlpackView::require_shape(const char* meaning, std::initializer_list<std::int64_t> expected) const {
  const std::span<const std::int64_t> shape(tensor_->shape, static_cast<std::size_t>(ndim()));
  const bool fits = std::equal(shape.begin(), shape.end(), expected.begin(), expected.end(),
                               [](std::int64_t len, std::int64_t wanted) { return wanted < 0 || len == wanted; });
  if (!fits) {
    throw InvalidInput(std::string(name_) + " has shape " + to_string(shape) + "; it must be " + meaning + " = " +
                       to_string({expected.begin(), expected.size()}));
  }
}

void DlpackView::require_dense_from(int dim) const {
  if (std::count(tensor_->shape, tensor_->shape + ndim(), 0) > 0) {
    return;  // numpy gives an empty array strides of 0
  }
  std::int64_t dense = 1;
  for (int d = ndim() - 1; d >= dim; --d) {
    if (stride(d) != dense && size(d) > 1) {
      throw InvalidInput(std::string(name_) + " is not contiguous; pass its contiguous copy");
    }
    dense *= size(d);
  }
  if (dim > 0 && size(dim - 1) > 1 && stride(dim - 1) < dense) {
    throw InvalidInput(std::string(name_) + " overlaps itself; pass its contiguous copy");
  }
}

}  // namespace blendserve::bindings
