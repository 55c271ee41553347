#include "policy/waiting_leaves.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace blendserve {
namespace {

// A request may run away from those that share its prefix where computing it anew costs at most this share of the rest.
constexpr double kMaxLostShare = 0.01;

}  // namespace

bool is_bound_to_prefix(const Plan& plan, std::int32_t leaf) {
  const double lost_s = plan.model().segment_compute_s(0, plan.layout().leaf_parent_depth(leaf));
  return lost_s > kMaxLostShare * plan.tree().leaf(leaf).total();
}

WaitingLeaves::WaitingLeaves(const Plan& plan, const OnlineEstimator& estimator, std::vector<std::int32_t> first)
    : first_(std::move(first)),
      is_waiting_(static_cast<std::size_t>(plan.num_requests()), true),
      lists_(estimator.num_classes() + 1) {
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
  std::ranges::sort(first_);
  next_known_.resize(known_.size() + 1);
  std::iota(next_known_.begin(), next_known_.end(), 0);
}

std::size_t WaitingLeaves::waiting_from(std::size_t index) {
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

std::int32_t WaitingLeaves::leftmost() {
  while (num_first_taken_ < first_.size() && !is_waiting(first_[num_first_taken_])) ++num_first_taken_;
  if (num_first_taken_ < first_.size()) return first_[num_first_taken_];
  const auto end = static_cast<std::int32_t>(is_waiting_.size());
  while (left_ < end && !is_waiting(left_)) ++left_;
  return left_ < end ? left_ : kNone;
}

std::int32_t WaitingLeaves::rightmost(std::size_t list) {
  auto& leaves = lists_[list];
  while (!leaves.empty() && !is_waiting(leaves.back())) leaves.pop_back();
  return leaves.empty() ? kNone : leaves.back();
}

}  // namespace blendserve
