#include "plan/regroup.h"

#include <algorithm>
#include <array>
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

  void take(std::int32_t row) {
    rows_.push_back(row);
    lcp_.push_back(least_lcp_);
    least_lcp_ = std::numeric_limits<std::int32_t>::max();
  }

  bool is_empty() const { return rows_.empty(); }

  // Appends the leaves to `sequence`, with whose last one they have no more than `lcp` in common.
  void move_to(Subsequence& sequence, std::int32_t lcp) {
    if (is_empty()) return;
    lcp_.front() = lcp;
    sequence.rows_.insert(sequence.rows_.end(), rows_.begin(), rows_.end());
    sequence.lcp_.insert(sequence.lcp_.end(), lcp_.begin(), lcp_.end());
    rows_.clear();
    lcp_.clear();
  }

  TreeLayout layout() && {
    if (!lcp_.empty()) lcp_.front() = 0;
    return TreeLayout::from_lcp(std::move(rows_), std::move(lcp_));
  }

 private:
  std::vector<std::int32_t> rows_;
  std::vector<std::int32_t> lcp_;
  std::int32_t least_lcp_ = std::numeric_limits<std::int32_t>::max();
};

}  // namespace

TreeLayout regroup(const TreeLayout& layout, std::span<const std::int8_t> groups, std::int32_t root_depth) {
  Subsequence staying;
  Subsequence moved;
  std::array<Subsequence, kNumBands> of_tree;
  const auto end_tree = [&] {
    for (Subsequence& group : of_tree) group.move_to(moved, root_depth);
  };
  for (std::size_t leaf = 0; leaf < layout.rows.size(); ++leaf) {
    const std::int32_t lcp = layout.lcp[leaf];
    if (lcp <= root_depth) end_tree();
    staying.skip_to(lcp);
    for (Subsequence& group : of_tree) {
      if (!group.is_empty()) group.skip_to(lcp);
    }
    const std::int8_t group = groups[leaf];
    (group == kStays ? staying : of_tree[static_cast<std::size_t>(group)]).take(layout.rows[leaf]);
  }
  end_tree();
  moved.move_to(staying, root_depth);
  return std::move(staying).layout();
}

}  // namespace blendserve
