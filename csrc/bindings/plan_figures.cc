#include "bindings/plan_figures.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <iterator>
#include <string>
#include <type_traits>

#include "base/error.h"

namespace py = pybind11;

namespace blendserve::bindings {
namespace {

struct NamedStop {
  const char* name;
  SplitStop stop;
};
constexpr NamedStop kStops[] = {{"monotone", SplitStop::kMonotone},
                                {"budget", SplitStop::kBudget},
                                {"rounds", SplitStop::kRounds},
                                {"one_sided", SplitStop::kOneSided}};

const char* name_of(SplitStop stop) { return std::ranges::find(kStops, stop, &NamedStop::stop)->name; }

SplitStop stop_named(const std::string& name) {
  const auto* const found = std::ranges::find_if(kStops, [&](const NamedStop& stop) { return name == stop.name; });
  if (found == std::end(kStops)) {
    throw InvalidInput("split_stop is \"" + name + "\", which is none that a plan has");
  }
  return found->stop;
}

}  // namespace

py::dict summary_of(const Plan& plan) {
  const PlanSummary& summary = plan.summary();
  py::dict figures;
  figures["num_requests"] = plan.num_requests();
  figures["prompt_tokens"] = summary.num_prompt_tokens;
  figures["unique_prompt_tokens"] = summary.num_unique_tokens;
  figures["sharing_ratio_optimal"] = summary.sharing_ratio_optimal();
  figures["sharing_ratio_planned"] = summary.sharing_ratio_planned();
  figures["density"] = summary.cost.density();
  figures["compute_s"] = summary.cost.compute_s;
  figures["memory_s"] = summary.cost.memory_s;
  figures["num_nodes"] = summary.num_nodes;
  figures["num_scan_units"] = plan.units().size();
  figures["num_splits"] = summary.split.num_splits;
  figures["num_copied_tokens"] = summary.split.num_copied_tokens;
  figures["num_split_rounds"] = summary.split.num_rounds;
  figures["split_stop"] = name_of(summary.split.stop);
  figures["t_comp_s"] = summary.bound.t_comp_s;
  figures["t_mem_s"] = summary.bound.t_mem_s;
  figures["ideal_s"] = summary.bound.ideal_s;
  figures["practical_s"] = summary.bound.practical_s;
  py::dict seconds;
  seconds["build"] = summary.times.build_s;
  seconds["estimate"] = summary.times.estimate_s;
  seconds["sort"] = summary.times.sort_s;
  seconds["split"] = summary.times.split_s;
  figures["preprocess_s"] = seconds;
  return figures;
}

PlanSummary summary_from(const py::dict& figures) {
  const auto read = [](const py::dict& from, const char* key, auto& value) {
    if (!from.contains(key)) {
      throw InvalidInput(std::string("the saved plan has no ") + key);
    }
    try {
      value = from[key].cast<std::remove_reference_t<decltype(value)>>();
    } catch (const py::cast_error&) {
      throw InvalidInput(std::string("the saved plan's ") + key + " is of another type");
    }
  };
  PlanSummary summary;
  std::string stop;
  py::dict seconds;
  read(figures, "prompt_tokens", summary.num_prompt_tokens);
  read(figures, "unique_prompt_tokens", summary.num_unique_tokens);
  read(figures, "compute_s", summary.cost.compute_s);
  read(figures, "memory_s", summary.cost.memory_s);
  read(figures, "num_nodes", summary.num_nodes);
  read(figures, "num_splits", summary.split.num_splits);
  read(figures, "num_copied_tokens", summary.split.num_copied_tokens);
  read(figures, "num_split_rounds", summary.split.num_rounds);
  read(figures, "split_stop", stop);
  read(figures, "t_comp_s", summary.bound.t_comp_s);
  read(figures, "t_mem_s", summary.bound.t_mem_s);
  read(figures, "ideal_s", summary.bound.ideal_s);
  read(figures, "practical_s", summary.bound.practical_s);
  read(figures, "preprocess_s", seconds);
  read(seconds, "build", summary.times.build_s);
  read(seconds, "estimate", summary.times.estimate_s);
  read(seconds, "sort", summary.times.sort_s);
  read(seconds, "split", summary.times.split_s);
  summary.split.stop = stop_named(stop);
  return summary;
}

}  // namespace blendserve::bindings
