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

// What a side of that much memory runs at once, its requests spread evenly over their lives.
struct SideBatch {
  double num_decodes = 0;     // N = bytes / ((p + d/2) · bytes per token)
  double prefill_tokens = 0;  // C = N·p/d, the prefill tokens a step that replace what finishes
};

// For requests of p prompt and d output tokens, both at least 0. Requests that hold no memory: N is infinite; that
// have no decode steps: C is.
SideBatch side_batch(double memory_bytes, double kv_bytes_per_token, double p, double d);

}  // namespace blendserve
