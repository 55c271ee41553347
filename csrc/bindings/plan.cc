#include "plan/plan.h"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "bindings/bindings.h"
#include "bindings/numpy_view.h"
#include "bindings/plan_figures.h"
#include "estimate/choose_sample.h"
#include "plan/annotate.h"
#include "plan/shards.h"

namespace py = pybind11;

namespace blendserve::bindings {
namespace {

// `array` by request, or an empty span for None.
template <typename T>
std::span<const T> optional_span(const std::optional<py::array>& array, const char* name, const PrefixTree& tree) {
  if (!array) return {};
  const auto values = span_of<T>(*array, name);
  if (values.empty() && tree.num_requests() > 0) {
    throw InvalidInput(std::string(name) + " has 0 values for " + std::to_string(tree.num_requests()) +
                       " requests; give one each, or None");
  }
  return values;
}

template <typename Run>
auto without_gil(const Run& run) {
  const py::gil_scoped_release release;
  return run();
}

std::shared_ptr<Plan> make_plan(const PrefixTree& tree, const std::optional<py::array>& output_lengths,
                                const std::optional<py::array>& evidence_weights,
                                const std::optional<py::array>& max_output_lengths, const CostModel& model,
                                double prior_mean, double prior_second_moment, double split_budget,
                                std::int32_t step_tokens, double build_s) {
  const KnownLengths known{optional_span<double>(output_lengths, "output_lengths", tree),
                           optional_span<double>(evidence_weights, "evidence_weights", tree),
                           optional_span<std::int32_t>(max_output_lengths, "max_output_lengths", tree)};
  PlanConfig config;
  config.prior = {prior_mean, prior_second_moment};
  config.split.budget = split_budget;
  config.step_tokens = step_tokens;
  return std::const_pointer_cast<Plan>(without_gil([&] { return Plan::make(tree, known, model, config, build_s); }));
}

// One layout of the tree as columns: leaves from left to right, then nodes.
py::dict columns_of(const AnnotatedTree& tree) {
  const TreeLayout& layout = tree.layout;
  std::vector<std::int32_t> leaf_len;
  std::vector<double> leaf_density;
  for (std::int32_t leaf = 0; leaf < layout.num_leaves(); ++leaf) {
    leaf_len.push_back(tree.shapes[static_cast<std::size_t>(leaf)].prompt_len);
    leaf_density.push_back(tree.leaf(leaf).density());
  }
  std::vector<std::int32_t> parent;
  std::vector<std::int32_t> begin;
  std::vector<std::int32_t> end;
  std::vector<std::int32_t> depth;
  std::vector<double> density;
  for (std::size_t id = 0; id < layout.nodes.size(); ++id) {
    const TreeNode& node = layout.nodes[id];
    parent.push_back(node.parent);
    begin.push_back(node.begin);
    end.push_back(node.end);
    depth.push_back(node.depth);
    density.push_back(tree.subtrees[id].density());
  }
  py::dict columns;
  columns["rows"] = copy_of(layout.rows);
  columns["leaf_len"] = copy_of(leaf_len);
  columns["leaf_parent"] = copy_of(layout.leaf_parents);
  columns["leaf_density"] = copy_of(leaf_density);
  columns["parent"] = copy_of(parent);
  columns["begin"] = copy_of(begin);
  columns["end"] = copy_of(end);
  columns["depth"] = copy_of(depth);
  columns["density"] = copy_of(density);
  return columns;
}

std::vector<RequestShape> shapes_by_row(const Plan& plan) {
  const AnnotatedTree& tree = plan.tree();
  std::vector<RequestShape> by_row(tree.shapes.size());
  for (std::size_t leaf = 0; leaf < by_row.size(); ++leaf) {
    by_row[static_cast<std::size_t>(tree.layout.rows[leaf])] = tree.shapes[leaf];
  }
  return by_row;
}

py::dict built_view(const Plan& plan, const PrefixTree& tree) {
  if (tree.num_requests() != plan.num_requests()) {
    throw InvalidInput("the tree has " + std::to_string(tree.num_requests()) + " requests and the plan " +
                       std::to_string(plan.num_requests()) + "; pass the tree that the plan was made from");
  }
  const auto by_row = shapes_by_row(plan);
  RequestShapes shapes;
  shapes.reserve(by_row.size());
  for (const std::int32_t row : tree.layout().rows) shapes.push_back(by_row[static_cast<std::size_t>(row)]);
  return columns_of(without_gil([&] { return annotate(tree.layout(), std::move(shapes), plan.costs()); }));
}

template <typename T>
std::vector<T> vector_of(const py::array& array, const char* name) {
  const auto values = span_of<T>(array, name);
  return {values.begin(), values.end()};
}

std::shared_ptr<Plan> restore_plan(const CostModel& model, const py::array& prompt_lens,
                                   const py::array& mean_output_lens, const py::array& second_moments,
                                   const py::array& is_length_known, const py::array& rows, const py::array& lcp,
                                   const py::array& order, const py::dict& summary) {
  const auto lens = span_of<std::int32_t>(prompt_lens, "prompt_lens");
  const auto means = span_of<double>(mean_output_lens, "mean_output_lens");
  const auto squares = span_of<double>(second_moments, "second_moments");
  const auto known = span_of<std::uint8_t>(is_length_known, "is_length_known");
  if (means.size() != lens.size() || squares.size() != lens.size() || known.size() != lens.size()) {
    throw InvalidInput(
        "prompt_lens, mean_output_lens, second_moments and is_length_known differ in length; give one value a "
        "request in each");
  }
  std::vector<RequestShape> shapes;
  shapes.reserve(lens.size());
  for (std::size_t i = 0; i < lens.size(); ++i) shapes.push_back({{means[i], squares[i]}, lens[i], known[i] != 0});
  return std::const_pointer_cast<Plan>(Plan::restore(model, shapes, vector_of<std::int32_t>(rows, "rows"),
                                                     vector_of<std::int32_t>(lcp, "lcp"),
                                                     vector_of<std::int32_t>(order, "order"), summary_from(summary)));
}

py::dict shard_dict(const Shard& shard) {
  py::dict figures;
  figures["rows"] = copy_of(shard.rows);
  figures["compute_s"] = shard.cost.compute_s;
  figures["memory_s"] = shard.cost.memory_s;
  figures["prompt_tokens"] = shard.num_prompt_tokens;
  figures["lost_tokens"] = shard.num_lost_tokens;
  return figures;
}

py::list shards_of(const Plan& plan, std::int32_t num_shards) {
  py::list shards;
  for (const Shard& shard : without_gil([&] { return cut_shards(plan.tree(), num_shards); })) {
    shards.append(shard_dict(shard));
  }
  return shards;
}

// One property of the shapes of all requests, by row.
template <typename T, typename Property>
py::array shape_array(const Plan& plan, const Property& property) {
  std::vector<T> values;
  for (const RequestShape& shape : shapes_by_row(plan)) values.push_back(property(shape));
  return copy_of(values);
}

py::array prompt_lens_of(const Plan& plan) {
  return shape_array<std::int32_t>(plan, [](const RequestShape& shape) { return shape.prompt_len; });
}

py::array mean_output_lens_of(const Plan& plan) {
  return shape_array<double>(plan, [](const RequestShape& shape) { return shape.output_len.mean; });
}

py::array second_moments_of(const Plan& plan) {
  return shape_array<double>(plan, [](const RequestShape& shape) { return shape.output_len.second_moment; });
}

py::array is_length_known_of(const Plan& plan) {
  return shape_array<std::uint8_t>(
      plan, [](const RequestShape& shape) { return static_cast<std::uint8_t>(shape.is_length_known); });
}

SampleMethod method_named(const std::string& name) {
  if (name == "uniform") return SampleMethod::kUniform;
  if (name == "memory_variance") return SampleMethod::kMemoryVariance;
  throw InvalidInput("method is \"" + name + "\"; it must be uniform or memory_variance");
}

py::tuple choose_samples(const PrefixTree& tree, double rate, std::uint64_t seed, const std::string& method,
                         const std::optional<py::array>& max_output_lengths, double prior_output_len) {
  const SampleConfig config{
      .rate = rate,
      .seed = seed,
      .method = method_named(method),
      .max_output_lens = optional_span<std::int32_t>(max_output_lengths, "max_output_lengths", tree),
      .prior_mean_len = prior_output_len};
  const LengthSample sample = without_gil([&] { return choose_sample(tree, config); });
  return py::make_tuple(copy_of(sample.rows), copy_of(sample.weights));
}

}  // namespace

void register_plan(py::module_& m) {
  m.def("choose_samples", &choose_samples, py::arg("tree"), py::kw_only(), py::arg("rate") = 0.01, py::arg("seed") = 0,
        py::arg("method") = "uniform", py::arg("max_output_lengths") = py::none(), py::arg("prior_output_len") = 256.0,
        "Requests to run first, so that the output lengths of the others can be estimated: (rows int32 [s] ascending, "
        "weights float64 [s]: how many requests each stands for). About rate * n, and at least one of every top-level "
        "subtree. method is uniform, or memory_variance: the more, the more uncertain a request's memory time is.");
  py::class_<Plan, std::shared_ptr<Plan>>(m, "PlanCore", "The C++ half of blendserve.Plan. Immutable.")
      .def_static("make", &make_plan, py::arg("tree"), py::arg("output_lengths"), py::arg("evidence_weights"),
                  py::arg("max_output_lengths"), py::arg("model"), py::kw_only(), py::arg("prior_mean"),
                  py::arg("prior_second_moment"), py::arg("split_budget"), py::arg("step_tokens"), py::arg("build_s"),
                  "Plan the requests of a tree: output_lengths float64 [n] with -1 for unknown, evidence_weights "
                  "float64 [n] and max_output_lengths int32 [n], or None.")
      .def_static("restore", &restore_plan, py::arg("model"), py::kw_only(), py::arg("prompt_lens"),
                  py::arg("mean_output_lens"), py::arg("second_moments"), py::arg("is_length_known"), py::arg("rows"),
                  py::arg("lcp"), py::arg("order"), py::arg("summary"), "The plan that had these properties.")
      .def_property_readonly("num_requests", &Plan::num_requests)
      .def_property_readonly(
          "order", [](const py::object& self) { return view_of(self.cast<const Plan&>().order(), self); },
          "int32 [n], read-only.")
      .def_property_readonly(
          "rows", [](const Plan& self) { return copy_of(self.layout().rows); },
          "int32 [n]: the leaves of the planned tree from left to right.")
      .def_property_readonly(
          "lcp", [](const Plan& self) { return copy_of(self.layout().lcp); },
          "int32 [n]: prompt tokens that each leaf shares with the one before it in the planned tree.")
      .def_property_readonly("prompt_lens", &prompt_lens_of, "int32 [n].")
      .def_property_readonly("mean_output_lens", &mean_output_lens_of, "float64 [n]: E[d], tokens.")
      .def_property_readonly("second_moments", &second_moments_of, "float64 [n]: E[d^2].")
      .def_property_readonly("is_length_known", &is_length_known_of, "uint8 [n]: 1 where the length was given.")
      .def_property_readonly("summary", &summary_of, "The figures of docs/metrics.md.")
      .def("built_view", &built_view, py::arg("tree"), "Columns of a TreeView of the tree the plan was made from.")
      .def(
          "planned_view", [](const Plan& self) { return columns_of(self.tree()); },
          "Columns of a TreeView of the planned tree.")
      .def("shards", &shards_of, py::arg("num_shards"), "The shards for data-parallel replicas.");
}

}  // namespace blendserve::bindings
