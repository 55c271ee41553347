#pragma once

#include <cstdint>

#include "plan/annotate.h"

namespace blendserve {

struct SplitConfig {
  // Share of the prefix sharing, in tokens, that may be given up, and that prompts may cost more to compute: splits
  // copy at most this share of the shared tokens, and of the unique ones. 0..1
  double budget = 0.01;
  double tolerance = 1.0 / 64;  // a leaf is misplaced when more than this share of the job's work lies in between
  std::int32_t max_rounds = 2;  // later ones move little

  // Throws InvalidInput that names the value.
  void validate() const;
};

enum class SplitStop : std::uint8_t {
  kMonotone,  // C1: hardly anything is misplaced: in sum of work times distance 1/1000 of the job's work at most
  kBudget,    // C2: no split is affordable
  kRounds,
  kOneSided,  // less than 1/1000 of the work is compute-bound, or memory-bound: there is nothing to blend
};

struct SplitReport {
  std::int64_t num_splits = 0;         // leaves that were cut out
  std::int64_t num_copied_tokens = 0;  // prefix tokens that are computed twice because of it
  std::int32_t num_rounds = 0;
  SplitStop stop = SplitStop::kMonotone;
};

// PAPER.md's conditional node split. Leaves whose density belongs elsewhere are cut out and put, under a copy of their
// prefix, below the effective root, where the sort then finds their place; the most displaced work per copied token
// first, while the copied tokens stay within the budget. Beyond the paper, outliers of one tree that belong to the same
// band of density share their copy, so that it is paid once. A leaf is cut out at most once.
//
// `tree` must be layer-sorted, and is again when it returns.
SplitReport conditional_split(AnnotatedTree& tree, const SplitConfig& config);

}  // namespace blendserve
