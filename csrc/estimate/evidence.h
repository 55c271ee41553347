#pragma once

#include <cstdint>
#include <span>

#include "estimate/length_estimate.h"
#include "tree/prefix_tree.h"

namespace blendserve {

// Output lengths that are known, and what they tell about those that are not. Spans are by row and borrowed.
struct KnownLengths {
  std::span<const double> lengths;  // tokens; kUnknownLength where not known. Empty: none is known.
  // How many requests each known length stands for as evidence (LengthSample::weights), 0 for one that says nothing
  // about others. Empty: all alike.
  std::span<const double> weights = {};
  std::span<const std::int32_t> max_output_lens = {};  // caps of what is estimated; empty: no caps

  double length(std::int32_t row) const {
    return lengths.empty() ? kUnknownLength : lengths[static_cast<std::size_t>(row)];
  }
  bool is_known(std::int32_t row) const { return length(row) != kUnknownLength; }
  double evidence_weight(std::int32_t row) const {
    if (!is_known(row)) return 0.0;
    return weights.empty() ? 1.0 : weights[static_cast<std::size_t>(row)];
  }
  bool has_evidence() const;
  LengthEstimate within_cap(std::int32_t row, LengthEstimate estimate) const {
    return max_output_lens.empty() ? estimate : capped(estimate, max_output_lens[static_cast<std::size_t>(row)]);
  }

  // Throws InvalidInput that names index and value, unless there is a length in [0, 2^31) or kUnknownLength for every
  // request, if any; a weight that is 0 or in [1e-9, 1e9], if any; and a cap of 1 or more, if any.
  void check(const PrefixTree& tree) const;
};

// Throws InvalidInput unless there is none or one cap >= 1 a request.
void check_max_output_lens(std::span<const std::int32_t> max_output_lens, const PrefixTree& tree);

}  // namespace blendserve
