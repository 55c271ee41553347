#pragma once

#include <cstdint>
#include <vector>

#include "tree/tree_layout.h"

namespace blendserve {

// The top-level subtrees of a prefix tree, as a partition of its leaves.
//
// A chat template, or one long system prompt, covers most requests and says nothing about them. So a node with more
// than half of all leaves is opened, as the root is: its children are top-level subtrees as well. The leaves that hang
// directly on an opened node are one stratum.
struct Strata {
  std::vector<std::int32_t> leaf_strata;  // [n] the stratum of each leaf
  std::vector<std::int32_t> sizes;        // by stratum, leaves; 0 for an opened node without leaves of its own
  std::vector<std::int32_t> levels;       // by stratum, opened nodes above it besides the root

  std::int32_t size() const { return static_cast<std::int32_t>(sizes.size()); }
};

Strata top_level_strata(const TreeLayout& layout);

// The strata that have leaves, the topmost first and the largest first among those.
std::vector<std::int32_t> strata_by_rank(const Strata& strata);

}  // namespace blendserve
