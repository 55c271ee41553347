#include "kernels/cpu/gemm.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <optional>

#include "base/error.h"
#include "bindings/bindings.h"
#include "bindings/checked_len.h"
#include "bindings/dlpack_view.h"

namespace py = pybind11;

namespace blendserve::bindings {

namespace {

using cpu::PackedMatrix;
using cpu::WeightDtype;

struct NamedDtype {
  const char* name;
  WeightDtype dtype;
};

constexpr NamedDtype kDtypes[] = {
    {"float32", WeightDtype::kFloat32}, {"bfloat16", WeightDtype::kBFloat16}, {"int8", WeightDtype::kInt8}};

WeightDtype dtype_named(const std::string& name) {
  for (const NamedDtype& named : kDtypes) {
    if (name == named.name) return named.dtype;
  }
  throw InvalidInput("dtype is \"" + name + R"("; it must be "float32", "bfloat16" or "int8")");
}

const char* name_of(WeightDtype dtype) { return kDtypes[static_cast<std::size_t>(dtype)].name; }

PackedMatrix pack(const py::object& weights, const std::string& dtype) {
  const WeightDtype stored = dtype_named(dtype);
  const DlpackView view("weights", weights);
  const bool is_bfloat16 = view.require_dtype({kDlFloat32, kDlBFloat16}) == kDlBFloat16;
  view.require_shape("[num_outputs, num_inputs]", {-1, -1});
  view.require_dense_from(1);
  const py::gil_scoped_release release;
  PackedMatrix matrix(view.size(0), view.size(1), stored);
  if (is_bfloat16) {
    matrix.pack_rows(0, static_cast<const std::uint16_t*>(view.data()), view.size(0), view.stride(0),
                     default_thread_pool());
  } else {
    matrix.pack_rows(0, static_cast<const float*>(view.data()), view.size(0), view.stride(0), default_thread_pool());
  }
  return matrix;
}

DlpackView rows_of(const char* name, const py::object& object, const char* meaning, std::int64_t num_rows,
                   std::int64_t row_len) {
  DlpackView view(name, object);
  view.require_dtype({kDlFloat32});
  view.require_shape(meaning, {num_rows, row_len});
  view.require_dense_from(1);
  return view;
}

// The view of a bias that may be None.
class BiasView {
 public:
  BiasView(const py::object& bias, const PackedMatrix& matrix) {
    if (bias.is_none()) return;
    view_.emplace("bias", bias);
    view_->require_dtype({kDlFloat32});
    view_->require_shape("[num_outputs]", {matrix.num_outputs()});
    view_->require_dense_from(0);
  }

  const float* data() const { return view_ ? static_cast<const float*>(view_->data()) : nullptr; }

 private:
  std::optional<DlpackView> view_;
};

void gemm(const py::object& a, const PackedMatrix& matrix, const py::object& out, const py::object& bias,
          bool accumulate) {
  const DlpackView a_rows = rows_of("a", a, "[num_rows, num_inputs]", -1, matrix.num_inputs());
  const DlpackView out_rows = rows_of("out", out, "[num_rows, num_outputs]", a_rows.size(0), matrix.num_outputs());
  const BiasView bias_view(bias, matrix);
  const cpu::GemmParams params{.a = static_cast<const float*>(a_rows.data()),
                               .a_stride = a_rows.stride(0),
                               .num_rows = checked_len("a", a_rows.size(0)),
                               .weights = &matrix,
                               .out = static_cast<float*>(out_rows.data()),
                               .out_stride = out_rows.stride(0),
                               .bias = bias_view.data(),
                               .accumulate = accumulate};
  const py::gil_scoped_release release;
  cpu::gemm(params, default_thread_pool());
}

py::array_t<std::int32_t> gemm_argmax(const py::object& a, const PackedMatrix& matrix, const py::object& bias) {
  const DlpackView a_rows = rows_of("a", a, "[num_rows, num_inputs]", -1, matrix.num_inputs());
  const BiasView bias_view(bias, matrix);
  const std::int32_t num_rows = checked_len("a", a_rows.size(0));
  py::array_t<std::int32_t> best(num_rows);
  std::int32_t* to = best.mutable_data();
  const py::gil_scoped_release release;
  cpu::gemm_argmax(static_cast<const float*>(a_rows.data()), a_rows.stride(0), num_rows, matrix, bias_view.data(), to,
                   default_thread_pool());
  return best;
}

}  // namespace

void register_gemm(py::module_& m) {
  py::class_<PackedMatrix, std::shared_ptr<PackedMatrix>>(
      m, "PackedMatrix", "The weights of a linear layer, packed once for gemm() and gemm_argmax() on the CPU.")
      .def(py::init(&pack), py::arg("weights"), py::arg("dtype") = "float32",
           R"(Copies `weights`, float32 or bfloat16 [num_outputs, num_inputs], its rows may lie apart.

dtype: how they are stored, "float32", "bfloat16" (rounded to nearest even) or "int8" (symmetric, one scale for each
output). Raises ValueError when anything does not fit, and for int8 when a weight is not finite.)")
      .def_property_readonly("num_outputs", &PackedMatrix::num_outputs)
      .def_property_readonly("num_inputs", &PackedMatrix::num_inputs)
      .def_property_readonly("dtype", [](const PackedMatrix& matrix) { return name_of(matrix.dtype()); })
      .def_property_readonly("size_bytes", &PackedMatrix::size_bytes);
  m.def("gemm", &gemm, py::arg("a"), py::arg("matrix"), py::arg("out"), py::arg("bias") = py::none(),
        py::arg("accumulate") = false,
        R"(out = a · weights^T (+ bias), or out += that with `accumulate`.

a: float32 [num_rows, num_inputs]; out: float32 [num_rows, num_outputs]; their rows may lie apart.
bias: float32 [num_outputs].
A row of `out` has the same bits in any batch, with any number of threads and any instruction set. Raises ValueError
when anything does not fit together; `out` is then untouched.)");
  m.def("gemm_argmax", &gemm_argmax, py::arg("a"), py::arg("matrix"), py::arg("bias") = py::none(),
        R"(int32 [num_rows]: the output with the largest value gemm() would give each row, the first among equals.

A NaN is larger than all others; a row without anything larger than -infinity gets 0.)");
}

}  // namespace blendserve::bindings
