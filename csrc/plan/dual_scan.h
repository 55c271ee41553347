#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "plan/annotate.h"
#include "plan/scan_units.h"

namespace blendserve {

enum class ScanSide : std::uint8_t { kNone, kLeft, kRight };

struct ScanCandidate {
  std::int32_t leaf = 0;
  ScanSide side = ScanSide::kNone;
};

// The paper's dual scanner (Algorithm 3): two scanners walk the leaves of a layer-sorted tree, one from the
// compute-heavy left, one from the memory-heavy right. KV memory M is divided by M_L + M_R = M and M_L·ρ_L + M_R·ρ_R =
// M·ρ_root, with the densities of the units under the scanners.
//
//   left   is limited by rate: a step may admit as much compute as the division gives it, t_kv·(M·ρ_root − M_R·ρ_R)
//          seconds a step; this is C_L = N_L·p/d prompt tokens, and what they decode later. A request of more is
//          admitted on credit. (A limit by number would starve compute: short answers live longer than d steps.)
//   right  is filled: its requests are charged what they hold on average over their lives, p + E[d]/2 tokens, up to
//   M_R.
//
// Where the equations have no solution between the scanners (ρ_root not between ρ_R and ρ_L, both in one unit, one side
// used up) requests are taken from the left without a limit. Requests are named by their leaf. Borrows all it is given.
class DualScan {
 public:
  DualScan(const AnnotatedTree& tree, std::span<const ScanUnit> units, const CostModel& model, double capacity_tokens);

  // `num_steps` steps start, of which only the last one can admit: divides the memory anew and grants the left side its
  // compute.
  void begin_steps(double num_steps = 1);
  // What to admit next in this step, or nothing. The same again until it is admitted.
  std::optional<ScanCandidate> next();
  // `leaf` runs, on either side's account. It need not be what next() said, nor be under a scanner: a preempted request
  // comes back to its side.
  void admit(std::int32_t leaf, ScanSide side);
  // A running request ended or was preempted.
  void release(std::int32_t leaf);
  // A running request outlived its estimate: from now on it is the right side's.
  void move_to_right(std::int32_t leaf);
  // A request that is not running will never run.
  void drop(std::int32_t leaf);

  ScanSide side(std::int32_t leaf) const { return accounts_[static_cast<std::size_t>(leaf)].side; }
  bool is_exhausted() const { return num_left_ == 0; }
  bool is_blending() const { return is_blending_; }
  double right_charge() const { return right_charge_; }  // tokens
  double right_limit() const { return right_limit_; }    // M_R, tokens
  // Seconds of compute a step that keep the density of the whole job: t_kv·M·ρ_root. While blending.
  double step_compute_s() const { return t_kv_ * capacity_ * root_density_; }
  // After next() had nothing: steps that have to start until the left side has credit again.
  double steps_until_credit() const;

 private:
  struct Account {
    ScanSide side = ScanSide::kNone;
    bool is_scanned = false;  // admitted once, or dropped
    float charge = 0;         // tokens, on the right side
  };

  Account& account(std::int32_t leaf) { return accounts_[static_cast<std::size_t>(leaf)]; }
  RequestShape shape(std::int32_t leaf) const { return tree_.shapes[static_cast<std::size_t>(leaf)]; }
  void skip_scanned();
  void mark_scanned(std::int32_t leaf);
  void charge_right(std::int32_t leaf, double tokens);
  double mean_occupancy(std::int32_t leaf) const;
  double unit_density(std::int32_t unit) const { return units_[static_cast<std::size_t>(unit)].cost.density(); }

  const AnnotatedTree& tree_;
  std::span<const ScanUnit> units_;
  double t_kv_;  // s
  double root_density_;
  double capacity_;                // M, tokens
  std::vector<Account> accounts_;  // by leaf
  std::int32_t num_left_;          // leaves not scanned yet
  std::int32_t left_ = 0;          // scanners: leaves that are not scanned, while there are any
  std::int32_t right_;
  std::int32_t left_unit_ = 0;
  std::int32_t right_unit_;
  bool is_blending_ = false;
  double right_limit_ = 0;   // M_R, tokens
  double right_charge_ = 0;  // tokens
  double left_rate_ = 0;
  double left_credit_ = 0;
};

}  // namespace blendserve
