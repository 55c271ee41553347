#include "policy/memory_side.h"

#include <algorithm>
#include <numeric>

namespace blendserve {
namespace {

// A request may run away from those that share its prefix where computing it anew costs at most this share of the rest.
constexpr double kMaxLostShare = 0.01;

}  // namespace

bool is_bound_to_prefix(const Plan& plan, std::int32_t leaf) {
  const double lost_s = plan.model().segment_compute_s(0, plan.layout().leaf_parent_depth(leaf));
  return lost_s > kMaxLostShare * plan.tree().leaf(leaf).total();
}

MemorySide::MemorySide(const Plan& plan, const OnlineEstimator& estimator)
    : is_waiting_(static_cast<std::size_t>(plan.num_requests()), true), lists_(estimator.num_classes() + 1) {
  const AnnotatedTree& tree = plan.tree();
  const double root_density = tree.total().density();
  for (std::int32_t leaf = 0; leaf < plan.num_requests(); ++leaf) {
    const auto index = static_cast<std::size_t>(leaf);
    const bool is_heavy = tree.leaf(leaf).density() < root_density;
    if (is_bound_to_prefix(plan, leaf)) {
      lists_.back().push_back(leaf);
    } else if (tree.shapes[index].is_length_known && is_heavy) {
      known_.push_back(leaf);
    } else {
      lists_[estimator.class_of(tree.layout.rows[index])].push_back(leaf);
    }
  }
  std::ranges::stable_sort(known_, std::ranges::greater{}, [&](std::int32_t leaf) {
    return tree.shapes[static_cast<std::size_t>(leaf)].output_len.mean;
  });
  next_known_.resize(known_.size() + 1);
  std::iota(next_known_.begin(), next_known_.end(), 0);
}

std::size_t MemorySide::waiting_from(std::size_t index) {
  std::size_t found = index;
  while (found < known_.size() && !is_waiting(known_[found])) {
    const auto next = static_cast<std::size_t>(next_known_[found]);
    found = next > found ? next : found + 1;
  }
  for (std::size_t at = index; at < found;) {
    const auto next = std::max(at + 1, static_cast<std::size_t>(next_known_[at]));
    next_known_[at] = static_cast<std::int32_t>(found);
    at = next;
  }
  return found;
}

std::int32_t MemorySide::rightmost(std::size_t list) {
  auto& leaves = lists_[list];
  while (!leaves.empty() && !is_waiting(leaves.back())) leaves.pop_back();
  return leaves.empty() ? kNone : leaves.back();
}

}  // namespace blendserve
