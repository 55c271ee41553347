#pragma once

#include <pybind11/pybind11.h>

#include <memory>

#include "base/error.h"
#include "plan/plan.h"
#include "tree/prefix_tree.h"

namespace blendserve::bindings {

// What a scheduler needs of a blendserve.Plan.
struct PlannedPrompts {
  std::shared_ptr<const Plan> plan;
  std::shared_ptr<const PrefixTree> tree;  // of the prompts
};

// Throws InvalidInput for an object that is no plan, and for a loaded plan without its prompts.
inline PlannedPrompts planned_prompts(const pybind11::object& plan) {
  namespace py = pybind11;
  if (!py::hasattr(plan, "core") || !py::isinstance<Plan>(plan.attr("core"))) {
    throw InvalidInput("plan is a " + std::string(py::str(py::type::of(plan).attr("__name__"))) +
                       "; it must be a blendserve.Plan or None");
  }
  if (plan.attr("tree").is_none()) {
    throw InvalidInput("the plan was loaded without its prompts; pass tokens and offsets to Plan.load");
  }
  PlannedPrompts prompts{plan.attr("core").cast<std::shared_ptr<Plan>>(),
                         plan.attr("tree").cast<std::shared_ptr<PrefixTree>>()};
  if (prompts.tree->num_requests() != prompts.plan->num_requests()) {
    throw InvalidInput("the plan has " + std::to_string(prompts.plan->num_requests()) +
                       " requests, and its tree was "
                       "extended to " +
                       std::to_string(prompts.tree->num_requests()) + " since; plan again");
  }
  return prompts;
}

}  // namespace blendserve::bindings
