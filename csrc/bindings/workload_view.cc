#include "bindings/workload_view.h"

#include <memory>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/ids.h"
#include "bindings/numpy_view.h"

namespace py = pybind11;

namespace blendserve::bindings {
namespace {

struct Buffers {
  py::array tokens;
  py::array offsets;
};

void refuse_nulls(const py::object& object, const char* name) {
  if (py::hasattr(object, "null_count") && object.attr("null_count").cast<std::int64_t>() > 0) {
    throw InvalidInput(std::string(name) + " has nulls; remove or fill them");
  }
}

void refuse_chunks(const py::object& object, const char* name) {
  if (py::hasattr(object, "combine_chunks")) {
    throw InvalidInput(std::string(name) + " is a chunked Arrow array; call combine_chunks() first");
  }
}

py::array array_of(const py::object& object, const char* name) {
  refuse_chunks(object, name);
  refuse_nulls(object, name);
  const py::object array = py::module_::import("numpy").attr("asarray")(object);
  return array.cast<py::array>();
}

py::array int64_offsets(const py::array& offsets) {
  if (!offsets.dtype().equal(py::dtype::of<std::int32_t>())) return offsets;
  return offsets.attr("astype")(py::dtype::of<std::int64_t>()).cast<py::array>();
}

}  // namespace

Workload workload_of(const py::object& tokens, const py::object& offsets) {
  const bool is_list_array = py::hasattr(tokens, "offsets") && py::hasattr(tokens, "values");
  if (offsets.is_none() && is_list_array && py::hasattr(tokens, "sizes")) {
    throw InvalidInput("tokens is an Arrow list view, whose prompts may lie anywhere; cast it to a list array first");
  }
  if (offsets.is_none() && !is_list_array) {
    refuse_chunks(tokens, "tokens");
    throw InvalidInput("offsets is missing; give int64 offsets [n + 1], or an Arrow list array as tokens");
  }
  if (is_list_array) refuse_nulls(tokens, "tokens");
  const std::shared_ptr<Buffers> owner(
      new Buffers{array_of(offsets.is_none() ? tokens.attr("values") : tokens, "tokens"),
                  int64_offsets(array_of(offsets.is_none() ? tokens.attr("offsets") : offsets, "offsets"))},
      [](Buffers* buffers) {
        const py::gil_scoped_acquire gil;
        delete buffers;
      });
  return Workload(span_of<Token>(owner->tokens, "tokens"), span_of<std::int64_t>(owner->offsets, "offsets"), owner);
}

}  // namespace blendserve::bindings
