#include <pybind11/numpy.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>

#include "base/ids.h"
#include "bindings/bindings.h"

namespace py = pybind11;

namespace blendserve::bindings {

namespace {

constexpr std::int64_t kMaxToken = std::numeric_limits<Token>::max();

py::object token_array(const py::list& values) {
  py::array_t<Token> tokens(static_cast<py::ssize_t>(values.size()));
  Token* token = tokens.mutable_data();
  for (const py::handle value : values) {
    if (!PyLong_CheckExact(value.ptr())) return py::none();  // bool is a subclass of int
    int overflow = 0;
    const long long number = PyLong_AsLongLongAndOverflow(value.ptr(), &overflow);
    if (overflow != 0 || number < 0 || number > kMaxToken) return py::none();
    *token++ = static_cast<Token>(number);
  }
  return tokens;
}

const char* skip_space(const char* at, const char* end) {
  while (at != end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')) ++at;
  return at;
}

// Ids in JSON's notation of integers, with commas between them, as many as `tokens` has room for. False if that is not
// what `list` holds.
bool read_tokens(std::string_view list, std::span<Token> tokens) {
  const char* at = list.data();
  const char* const end = at + list.size();
  for (Token& token : tokens) {
    if (at != list.data()) ++at;  // the comma
    at = skip_space(at, end);
    const char* const first = at;
    std::int64_t number = 0;
    while (at != end && *at >= '0' && *at <= '9' && number <= kMaxToken) number = 10 * number + (*at++ - '0');
    const bool has_leading_zero = at - first > 1 && *first == '0';
    if (at == first || number > kMaxToken || has_leading_zero) return false;
    token = static_cast<Token>(number);
    at = skip_space(at, end);
    if (at != end && *at != ',') return false;
  }
  return at == end;
}

py::object cut_token_ids(const py::bytes& line, const std::string& key) {
  const std::string_view text = line;
  const std::string name = '"' + key + '"';
  const std::size_t place = text.find(name);
  const bool is_alone = place != text.npos && text.find(name, place + name.size()) == text.npos;
  if (!is_alone || text.find('\\') != text.npos) return py::none();

  const char* const end = text.data() + text.size();
  const char* const colon = skip_space(text.data() + place + name.size(), end);
  if (colon == end || *colon != ':') return py::none();
  const char* const open = skip_space(colon + 1, end);
  const char* const close = std::find(open, end, ']');
  if (close == end || *open != '[') return py::none();

  const std::string_view list(open + 1, close);
  py::array_t<Token> tokens(std::count(list.begin(), list.end(), ',') + 1);
  if (!read_tokens(list, {tokens.mutable_data(), static_cast<std::size_t>(tokens.size())})) return py::none();
  return py::make_tuple(py::bytes(std::string(text.data(), open) + "null" + std::string(close + 1, end)), tokens);
}

}  // namespace

void register_token_list(py::module_& m) {
  m.def("token_array", &token_array, py::arg("values"),
        "A list of token ids as int32 [len(values)]; None if one of them is no int from 0 to 2**31 - 1.");
  m.def(
      "cut_token_ids", &cut_token_ids, py::arg("line"), py::arg("key"),
      "A line of JSON with null in place of the token ids that stand behind \"key\", and these ids, int32 [p]: many "
      "times faster than to parse them with the rest. None where that is not plain to see: \"key\" stands in the line "
      "not once, other than a list of ints from 0 to 2**31 - 1 follows, or the line has a backslash.");
}

}  // namespace blendserve::bindings
