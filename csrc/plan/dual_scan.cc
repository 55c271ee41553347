#include "plan/dual_scan.h"

#include <algorithm>
#include <cmath>

#include "base/huge_pages.h"
#include "perf/memory_partition.h"

namespace blendserve {
namespace {

constexpr double kNoCharge = 0.5;  // tokens: what rounding may leave when all charges are gone

}  // namespace

DualScan::DualScan(const AnnotatedTree& tree, std::span<const ScanUnit> units, const CostModel& model,
                   double capacity_tokens)
    : tree_(tree),
      units_(units),
      t_kv_(model.t_kv()),
      root_density_(tree.total().density()),
      capacity_(capacity_tokens),
      num_left_(tree.layout.num_leaves()),
      right_(num_left_ - 1),
      right_unit_(static_cast<std::int32_t>(units.size()) - 1) {
  resize_huge(accounts_, tree.shapes.size());
}

void DualScan::begin_steps(double num_steps) {
  if (is_exhausted()) return;
  const double rho_left = unit_density(left_unit_);
  const double rho_right = unit_density(right_unit_);
  is_blending_ = rho_right < rho_left && rho_right < root_density_ && root_density_ < rho_left;
  if (!is_blending_) return;
  right_limit_ = partition(capacity_, rho_left, rho_right, root_density_).right;
  left_rate_ = t_kv_ * (capacity_ * root_density_ - right_limit_ * rho_right);
  left_credit_ = std::min(left_credit_ + num_steps * left_rate_, left_rate_);
}

std::optional<ScanCandidate> DualScan::next() {
  if (is_exhausted()) return std::nullopt;
  if (!is_blending_ || left_credit_ > 0) return ScanCandidate{left_, ScanSide::kLeft};
  const bool has_room = right_charge_ + mean_occupancy(right_) <= right_limit_;
  if (has_room || right_charge_ < kNoCharge) return ScanCandidate{right_, ScanSide::kRight};
  return std::nullopt;
}

double DualScan::steps_until_credit() const { return std::floor(-left_credit_ / left_rate_) + 1; }

void DualScan::admit(std::int32_t leaf, ScanSide side) {
  mark_scanned(leaf);
  account(leaf).side = side;
  if (side == ScanSide::kRight) {
    charge_right(leaf, mean_occupancy(leaf));
  } else if (is_blending_) {
    left_credit_ -= tree_.leaf(leaf).compute_s;
  }
}

void DualScan::release(std::int32_t leaf) {
  right_charge_ -= static_cast<double>(account(leaf).charge);
  account(leaf).charge = 0;
  account(leaf).side = ScanSide::kNone;
}

void DualScan::move_to_right(std::int32_t leaf) {
  account(leaf).side = ScanSide::kRight;
  charge_right(leaf, shape(leaf).prompt_len + shape(leaf).output_len.mean);
}

void DualScan::drop(std::int32_t leaf) { mark_scanned(leaf); }

void DualScan::mark_scanned(std::int32_t leaf) {
  if (account(leaf).is_scanned) return;
  account(leaf).is_scanned = true;
  --num_left_;
  skip_scanned();
}

void DualScan::skip_scanned() {
  if (is_exhausted()) return;
  while (account(left_).is_scanned) ++left_;
  while (account(right_).is_scanned) --right_;
  while (units_[static_cast<std::size_t>(left_unit_)].end <= left_) ++left_unit_;
  while (units_[static_cast<std::size_t>(right_unit_)].begin > right_) --right_unit_;
}

void DualScan::charge_right(std::int32_t leaf, double tokens) {
  account(leaf).charge = static_cast<float>(tokens);
  right_charge_ += static_cast<double>(account(leaf).charge);
}

double DualScan::mean_occupancy(std::int32_t leaf) const {
  return shape(leaf).prompt_len + shape(leaf).output_len.mean / 2;
}

}  // namespace blendserve
