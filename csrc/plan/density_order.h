#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace blendserve {

// Sorts items by density, the densest first; equal ones keep their order. Near linear: a radix sort by single precision,
// then exact within what that does not tell apart. Keeps its buffers from one call to the next.
class DensityOrder {
 public:
  using Density = std::function<double(std::uint32_t item)>;

  void sort(std::span<std::uint32_t> items, const Density& density);

 private:
  std::vector<std::uint64_t> keys_;
  std::vector<std::uint64_t> scratch_;
};

}  // namespace blendserve
