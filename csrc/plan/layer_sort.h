#pragma once

#include <span>

#include "plan/request_costs.h"
#include "tree/tree_layout.h"

namespace blendserve {

// Puts the children of every node in order of density, compute-heavy on the left; equal ones keep their order. Node ids
// and what is shared stay as they are. `subtree` is annotate() of the layout and stays valid for it.
void layer_sort(TreeLayout& layout, const RequestCosts& costs, std::span<const Cost> subtree);

}  // namespace blendserve
