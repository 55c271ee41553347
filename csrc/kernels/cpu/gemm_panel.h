#pragma once

#include <cstdint>

#include "kernels/cpu/panel_layout.h"

namespace blendserve::cpu {

// Inputs a panel is multiplied by at a time: their weights, 32 KB as float32, stay in the L1 cache while they meet all
// rows. Sums go on from one block to the next, so the length of a block shows in no result.
inline constexpr std::int32_t kBlockLen = 256;

// From row to row of a block of `a`: an odd number of cache lines, so that rows do not meet in the cache's sets.
inline constexpr std::int32_t kBlockStride = kBlockLen + 16;

struct PanelBlock {
  const float* a = nullptr;       // [num_rows, block_len], rows kBlockStride apart, num_rows >= 1
  const void* weights = nullptr;  // [block_len, kPanelWidth] of `dtype`
  float* scratch = nullptr;       // [kBlockLen, kPanelWidth], for weights that are not float32
  std::int32_t num_rows = 0;
  std::int32_t block_len = 0;  // at most kBlockLen
  WeightDtype dtype = WeightDtype::kFloat32;
  bool is_first = true;  // sums start from 0, else from what they are
};

// Rows of kPanelWidth sums, `stride` apart.
struct PanelSums {
  float* first = nullptr;
  std::int64_t stride = 0;

  [[gnu::always_inline]] float* row(std::int64_t r) const { return first + r * stride; }
};

// Twins, equal bit for bit. sums [num_rows, kPanelWidth] (+)= a · weights, each one chain of fused multiply-adds with
// rising inputs. scratch starts on a cache line.
void multiply_panel_scalar(const PanelBlock& block, PanelSums sums);
void multiply_panel_avx2(const PanelBlock& block, PanelSums sums);
void multiply_panel_avx512(const PanelBlock& block, PanelSums sums);

}  // namespace blendserve::cpu
