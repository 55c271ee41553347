#pragma once

namespace blendserve {

// The dual scanner's division of the KV memory, in the unit of the whole.
struct MemoryPartition {
  double left = 0;   // of the dense side
  double right = 0;  // of the sparse side
};

// Solves left + right = memory and left·ρ_left + right·ρ_right = memory·ρ_root. What has no solution is clamped:
//   ρ_root at or beyond one side's density   that side takes all
//   ρ_left = ρ_right                         half each: any division has the same density
//   one side infinite (no memory time)       the other takes all, unless ρ_root is infinite too
// Throws InvalidInput for a density that is NaN or negative, or a memory that is negative or not finite.
MemoryPartition partition(double memory, double rho_left, double rho_right, double rho_root);

}  // namespace blendserve
