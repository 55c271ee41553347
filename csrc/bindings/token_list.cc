#include <pybind11/numpy.h>

#include <limits>

#include "base/ids.h"
#include "bindings/bindings.h"

namespace py = pybind11;

namespace blendserve::bindings {

namespace {

py::object token_array(const py::list& values) {
  py::array_t<Token> tokens(static_cast<py::ssize_t>(values.size()));
  Token* token = tokens.mutable_data();
  for (const py::handle value : values) {
    if (!PyLong_CheckExact(value.ptr())) return py::none();  // bool is a subclass of int
    int overflow = 0;
    const long long number = PyLong_AsLongLongAndOverflow(value.ptr(), &overflow);
    if (overflow != 0 || number < 0 || number > std::numeric_limits<Token>::max()) return py::none();
    *token++ = static_cast<Token>(number);
  }
  return tokens;
}

}  // namespace

void register_token_list(py::module_& m) {
  m.def("token_array", &token_array, py::arg("values"),
        "A list of token ids as int32 [len(values)]; None if one of them is no int from 0 to 2**31 - 1.");
}

}  // namespace blendserve::bindings
