#pragma once

#include <dlpack/dlpack.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <initializer_list>

namespace blendserve::bindings {

// The memory of a tensor of another library, borrowed through the DLPack protocol for as long as the view lives.
class DlpackView {
 public:
  // Throws InvalidInput, with `name` in the message, when `object` is not a tensor in CPU memory that can be borrowed.
  DlpackView(const char* name, const pybind11::object& object);

  int ndim() const { return tensor_->ndim; }
  std::int64_t size(int dim) const { return tensor_->shape[dim]; }
  void* data() const { return static_cast<char*>(tensor_->data) + tensor_->byte_offset; }

  // Elements from one index of `dim` to the next; that of a dense tensor where the tensor has at most one of them.
  std::int64_t stride(int dim) const;

  // Throw InvalidInput unless the tensor is as said.
  DLDataType require_dtype(std::initializer_list<DLDataType> expected) const;  // one of them; returns which
  void require_shape(const char* meaning, std::initializer_list<std::int64_t> expected) const;  // -1 is any length
  void require_dense_from(int dim) const;  // dims `dim`, `dim` + 1, … lie without gaps

 private:
  const char* name_;
  pybind11::capsule capsule_;  // never consumed: it gives the tensor back when it goes
  const DLTensor* tensor_;
};

inline constexpr DLDataType kDlFloat32{kDLFloat, 32, 1};
inline constexpr DLDataType kDlBFloat16{kDLBfloat, 16, 1};

bool operator==(DLDataType a, DLDataType b);

}  // namespace blendserve::bindings
