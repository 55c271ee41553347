#include "tree/prefix_tree.h"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <string>

#include "base/error.h"
#include "base/thread_pool.h"
#include "bindings/bindings.h"
#include "bindings/numpy_view.h"
#include "bindings/workload_view.h"

namespace py = pybind11;

namespace blendserve::bindings {
namespace {

std::shared_ptr<PrefixTree> build(const py::object& tokens, const py::object& offsets, int num_threads) {
  Workload workload = workload_of(tokens, offsets);
  const py::gil_scoped_release release;
  ThreadPool pool(threads_wanted(num_threads));
  return std::make_shared<PrefixTree>(PrefixTree::build(std::move(workload), pool));
}

void extend(PrefixTree& tree, const py::object& tokens, const py::object& offsets, int num_threads) {
  Workload workload = workload_of(tokens, offsets);
  const py::gil_scoped_release release;
  ThreadPool pool(threads_wanted(num_threads));
  tree.extend(std::move(workload), pool);
}

// One field of all nodes, as an array.
template <auto Field>
py::array node_array(const PrefixTree& tree) {
  std::vector<std::int32_t> values;
  values.reserve(tree.layout().nodes.size());
  for (const TreeNode& node : tree.layout().nodes) values.push_back(node.*Field);
  return copy_of(values);
}

}  // namespace

void register_prefix_tree(py::module_& m) {
  py::class_<PrefixTree, std::shared_ptr<PrefixTree>>(
      m, "PrefixTree",
      "The prefix tree of many prompts: a compressed trie whose leaves are the requests, built by sorting them.\n\n"
      "Nodes are the shared segments (inner nodes), children before their parents, the root last; the leaves below "
      "node v are order[begin[v]:end[v]].")
      .def_static("build", &build, py::arg("tokens"), py::arg("offsets") = py::none(), py::kw_only(),
                  py::arg("num_threads") = 0,
                  "Build from prompt i = tokens[offsets[i]:offsets[i + 1]]: tokens int32 [T], offsets int64 [n + 1]; "
                  "or from an Arrow list array as tokens alone. Nothing is copied, and the arrays must not change "
                  "while the tree lives. num_threads 0 takes all CPUs; the tree is the same for any number. Raises "
                  "ValueError for other dtypes, and offsets that fall or leave the tokens.")
      .def("extend", &extend, py::arg("tokens"), py::arg("offsets") = py::none(), py::kw_only(),
           py::arg("num_threads") = 0,
           "Add the prompts of a new window as rows num_requests, num_requests + 1, ...; arguments as for build. The "
           "earlier prompts are not sorted again. No other thread may use the tree meanwhile.")
      .def_property_readonly("num_requests", &PrefixTree::num_requests)
      .def_property_readonly("num_prompt_tokens", &PrefixTree::num_prompt_tokens)
      .def_property_readonly("num_unique_tokens", &PrefixTree::num_unique_tokens,
                             "Tokens to compute if nothing is computed twice: the nodes of the uncompressed trie.")
      .def_property_readonly("num_nodes", &PrefixTree::num_nodes,
                             "Nodes of the compressed trie: the root, and every place where prompts part or end.")
      .def_property_readonly("sharing_ratio", &PrefixTree::sharing_ratio, "1 - num_unique_tokens / num_prompt_tokens.")
      .def_property_readonly(
          "prompt_lens",
          [](const PrefixTree& self) {
            return py::array_t<std::int32_t>(self.num_requests(), self.prompt_lens().data());
          },
          "int32 [n], tokens, by row.")
      .def_property_readonly(
          "order", [](const PrefixTree& self) { return copy_of(self.layout().rows); },
          "int32 [n]: the rows by their tokens, depth first; a prefix comes before what it begins.")
      .def_property_readonly(
          "lcp", [](const PrefixTree& self) { return copy_of(self.layout().lcp); },
          "int32 [n]: tokens that prompt order[i] has in common with order[i - 1]; lcp[0] is 0.")
      .def_property_readonly("node_parent", &node_array<&TreeNode::parent>, "int32 [m]: -1 at the root.")
      .def_property_readonly("node_begin", &node_array<&TreeNode::begin>, "int32 [m]: first leaf below each node.")
      .def_property_readonly("node_end", &node_array<&TreeNode::end>, "int32 [m]: one past the last leaf.")
      .def_property_readonly("node_depth", &node_array<&TreeNode::depth>,
                             "int32 [m]: tokens that all prompts below a node have in common.")
      .def("verify", &PrefixTree::verify, py::call_guard<py::gil_scoped_release>(),
           "Raise RuntimeError unless every invariant holds; reads all prompts.")
      .def("to_string", &PrefixTree::to_string, py::arg("max_lines") = 200, py::call_guard<py::gil_scoped_release>(),
           "One segment a line, indented by its level, with its first tokens.");
}

}  // namespace blendserve::bindings
