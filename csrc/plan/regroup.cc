#include "plan/regroup.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <utility>
#include <vector>

#include "plan/outliers.h"

namespace blendserve {
namespace {

// A leaf sequence that takes some leaves of a longer one. What a leaf has in common with the one taken before it is the
// least that any neighbours in between have.
class Subsequence {
 public:
  void skip_to(std::int32_t lcp) { least_lcp_ = std::min(least_lcp_, lcp); }

  void take(std::int32_t leaf) {
    leaves_.push_back(leaf);
    lcp_.push_back(least_lcp_);
    least_lcp_ = std::numeric_limits<std::int32_t>::max();
  }

  // Appends the leaves to `sequence`, with whose last one they have no more than `lcp` in common.
  void move_to(Subsequence& sequence, std::int32_t lcp) {
    if (leaves_.empty()) return;
    lcp_.front() = lcp;
    sequence.leaves_.insert(sequence.leaves_.end(), leaves_.begin(), leaves_.end());
    sequence.lcp_.insert(sequence.lcp_.end(), lcp_.begin(), lcp_.end());
    leaves_.clear();
    lcp_.clear();
  }

  AnnotatedTree tree(const AnnotatedTree& from) && {
    std::vector<std::int32_t> rows;
    RequestShapes shapes;
    rows.reserve(leaves_.size());
    shapes.reserve(leaves_.size());
    for (const std::int32_t leaf : leaves_) {
      rows.push_back(from.layout.rows[static_cast<std::size_t>(leaf)]);
      shapes.push_back(from.shapes[static_cast<std::size_t>(leaf)]);
    }
    if (!lcp_.empty()) lcp_.front() = 0;
    return annotate(TreeLayout::from_lcp(std::move(rows), std::move(lcp_)), std::move(shapes), from.costs);
  }

 private:
  std::vector<std::int32_t> leaves_;
  std::vector<std::int32_t> lcp_;
  std::int32_t least_lcp_ = std::numeric_limits<std::int32_t>::max();
};

}  // namespace

AnnotatedTree regroup(const AnnotatedTree& tree, std::span<const std::int8_t> groups, std::int32_t root_depth) {
  Subsequence staying;
  Subsequence moved;
  std::array<Subsequence, kNumBands> of_tree;
  std::uint32_t started = 0;  // the groups of this tree that have a leaf, by bit
  const auto for_each_started = [&](const auto& run) {
    for (std::uint32_t left = started; left != 0; left &= left - 1) {
      run(of_tree[static_cast<std::size_t>(std::countr_zero(left))]);
    }
  };
  const auto end_tree = [&] {
    for_each_started([&](Subsequence& group) { group.move_to(moved, root_depth); });
    started = 0;
  };
  for (std::int32_t leaf = 0; leaf < tree.layout.num_leaves(); ++leaf) {
    const std::int32_t lcp = tree.layout.lcp[static_cast<std::size_t>(leaf)];
    if (lcp <= root_depth) end_tree();
    staying.skip_to(lcp);
    for_each_started([&](Subsequence& group) { group.skip_to(lcp); });
    const std::int8_t group = groups[static_cast<std::size_t>(leaf)];
    if (group == kStays) {
      staying.take(leaf);
    } else {
      of_tree[static_cast<std::size_t>(group)].take(leaf);
      started |= 1U << group;
    }
  }
  end_tree();
  moved.move_to(staying, root_depth);
  return std::move(staying).tree(tree);
}

}  // namespace blendserve
