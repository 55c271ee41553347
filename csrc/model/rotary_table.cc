#include "model/rotary_table.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace blendserve {

RotaryTable::RotaryTable(std::vector<float> frequencies) : frequencies_(std::move(frequencies)) {}

void RotaryTable::reserve(std::int64_t num_positions) {
  const std::int64_t begin = static_cast<std::int64_t>(cos_.size()) / std::max<std::int64_t>(1, half_dim());
  if (num_positions <= begin) return;
  const std::int64_t end = std::max(num_positions, 2 * begin);
  cos_.reserve(static_cast<std::size_t>(end * half_dim()));
  sin_.reserve(static_cast<std::size_t>(end * half_dim()));
  for (std::int64_t position = begin; position < end; ++position) {
    for (const float frequency : frequencies_) {
      const float angle = static_cast<float>(position) * frequency;
      cos_.push_back(std::cos(angle));
      sin_.push_back(std::sin(angle));
    }
  }
}

}  // namespace blendserve
