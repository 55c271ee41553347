#pragma once

#include <cstdint>
#include <span>

#include "plan/annotate.h"

namespace blendserve {

inline constexpr std::int8_t kStays = -1;

// The tree with some leaves cut out. Leaf i stays, or goes to group groups[i] (0 to kNumBands - 1) of its tree, a child
// of the node at `root_depth` that is above all leaves. Every group of a tree becomes a tree of its own beside it, with
// a copy of the segments it needs. The result is not sorted.
AnnotatedTree regroup(const AnnotatedTree& tree, std::span<const std::int8_t> groups, std::int32_t root_depth);

}  // namespace blendserve
