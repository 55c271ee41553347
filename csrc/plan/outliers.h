#pragma once

#include <cstdint>
#include <vector>

#include "plan/annotate.h"

namespace blendserve {

inline constexpr std::int32_t kNumBands = 32;

// A leaf whose density belongs elsewhere. The leaves by density divide the job's work (compute + memory time) into
// kNumBands equal bands; `band` is the one it belongs to.
struct Outlier {
  std::int32_t leaf = 0;
  NodeId parent = kNoNode;
  std::int32_t band = 0;
  float benefit = 0;  // its work in seconds, times the share of the job's work that lies between its tree and its place
};

// The deepest node above all leaves: below the root only where all prompts begin alike, as with one chat template.
NodeId effective_root(const TreeLayout& layout);

// The leaves that lie deeper than the children of effective_root() and whose place by density is outside of what their
// tree, a child of it, covers in the layer-sorted `tree`, by more than `tolerance` of the job's work. The densest
// first.
std::vector<Outlier> find_outliers(const AnnotatedTree& tree, double tolerance);

}  // namespace blendserve
