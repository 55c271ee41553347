#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "estimate/length_estimate.h"
#include "tree/prefix_tree.h"

namespace blendserve {

// Requests whose lengths are learned together. Each of the largest top-level subtrees is a family, all others are
// pooled by the size of their estimates, four doublings of the mean to a family. A class is a quarter of a family by
// prompt length: answers to long prompts often are of another length.
struct LengthClasses {
  static constexpr std::int32_t kMaxSubtrees = 32;
  static constexpr std::int32_t kMinSubtreeSize = 64;
  static constexpr std::int32_t kBands = 4;

  std::int32_t num_families = 0;
  std::vector<std::uint8_t> of_row;

  // `estimates` and `prompt_lens` by row.
  LengthClasses(const TreeLayout& layout, std::span<const LengthEstimate> estimates,
                std::span<const std::int32_t> prompt_lens);

  std::int32_t count() const { return num_families * kBands; }
  static std::size_t family(std::size_t length_class) { return length_class / kBands; }
};

}  // namespace blendserve
