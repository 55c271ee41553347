#pragma once

#include <cstdint>

namespace blendserve::cpu {

// How weights are stored. int8 is symmetric with one scale for each output: a weight is its scale times an integer.
enum class WeightDtype : std::uint8_t { kFloat32, kBFloat16, kInt8 };

[[gnu::always_inline]] constexpr std::int64_t element_bytes(WeightDtype dtype) {
  return dtype == WeightDtype::kFloat32 ? 4 : dtype == WeightDtype::kBFloat16 ? 2 : 1;
}

// Outputs whose weights lie together: a panel is [num_inputs, kPanelWidth]. Whole vectors of every instruction set.
inline constexpr std::int64_t kPanelWidth = 32;

}  // namespace blendserve::cpu
