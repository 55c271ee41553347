#pragma once

#include <cstdint>
#include <utility>

namespace blendserve {

// One pass of ordered pivotal sampling (Deville 1998; Chauvet 2012) over leaves. Each new leaf duels with the one that
// is carried: one takes as much of both probabilities as it can, up to 1, the other has the rest. It keeps every
// inclusion probability and spreads the sample along the order, as a systematic pass does, but a pattern in the order
// (say four variants of each question) cannot lock in with its step.
class PivotalPass {
 public:
  static constexpr std::int32_t kNoLeaf = -1;

  // Draws are uniform in [0, 1). The leaf that is certain to be taken after the duel, or kNoLeaf.
  std::int32_t duel(std::int32_t leaf, double probability, double draw) {
    const double sum = carried_ + probability;
    if (sum < 1.0) {
      if (draw * sum < probability) leaf_ = leaf;
      carried_ = sum;
      return kNoLeaf;
    }
    carried_ = sum - 1.0;
    if (draw * (2.0 - sum) <= 1.0 - probability && leaf_ != kNoLeaf) return std::exchange(leaf_, leaf);
    return leaf;
  }

  // The leaf that is carried at the end is taken with the probability it has; a total of 1 may be rounded down.
  std::int32_t finish(double draw) const { return draw < carried_ + kRounding ? leaf_ : kNoLeaf; }

 private:
  static constexpr double kRounding = 1e-6;

  std::int32_t leaf_ = kNoLeaf;
  double carried_ = 0.0;
};

}  // namespace blendserve
