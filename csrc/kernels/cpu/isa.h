#pragma once

#include <string_view>

namespace blendserve::cpu {

// Instruction sets the kernels are written for, each a superset of those before it: a kernel runs its best twin that is
// not above the active one. Results are equal bit for bit within one; between two they may differ by rounding.
enum class Isa { kScalar, kAvx2, kAvx512 };

// The best one this processor runs.
Isa best_isa();

// The one in use: best_isa() until another is chosen. Process-wide; not to be changed while a kernel runs.
Isa active_isa();

// `name` is "scalar", "avx2", "avx512" or "auto" (the best). Throws InvalidInput for another name or one this processor
// lacks.
void set_active_isa(std::string_view name);

std::string_view to_string(Isa isa);

}  // namespace blendserve::cpu
