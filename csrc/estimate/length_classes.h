#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "estimate/length_estimate.h"
#include "tree/prefix_tree.h"

namespace blendserve {

// Requests whose lengths are learned together: each of the largest top-level subtrees is a class, all others are pooled
// by the size of their estimates, four doublings of the mean to a class.
struct LengthClasses {
  static constexpr std::int32_t kMaxSubtrees = 32;
  static constexpr std::int32_t kMinSubtreeSize = 64;

  std::vector<std::uint8_t> of_row;
  std::int32_t count = 0;

  LengthClasses(const TreeLayout& layout, std::span<const LengthEstimate> estimates);
};

}  // namespace blendserve
