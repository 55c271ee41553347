#pragma once

#include <cstdint>
#include <vector>

namespace blendserve {

// Cosines and sines of rotary position embedding, made for positions when they are first needed.
class RotaryTable {
 public:
  // `frequencies` [head_dim / 2], radians per position.
  explicit RotaryTable(std::vector<float> frequencies);

  std::int64_t half_dim() const { return static_cast<std::int64_t>(frequencies_.size()); }

  // Makes room for positions [0, num_positions); not while another thread reads.
  void reserve(std::int64_t num_positions);

  // [half_dim] each, of a position that reserve() covered.
  const float* cos(std::int64_t position) const { return cos_.data() + position * half_dim(); }
  const float* sin(std::int64_t position) const { return sin_.data() + position * half_dim(); }

 private:
  std::vector<float> frequencies_;
  std::vector<float> cos_;  // [positions, half_dim]
  std::vector<float> sin_;
};

}  // namespace blendserve
