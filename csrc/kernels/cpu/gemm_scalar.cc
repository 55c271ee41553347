#include <cmath>
#include <cstddef>

#include "kernels/cpu/bfloat16.h"
#include "kernels/cpu/gemm_panel.h"

namespace blendserve::cpu {

namespace {

float weight_at(const PanelBlock& block, std::ptrdiff_t i) {
  switch (block.dtype) {
    case WeightDtype::kBFloat16:
      return bfloat16_to_float(static_cast<const std::uint16_t*>(block.weights)[i]);
    case WeightDtype::kInt8:
      return static_cast<const std::int8_t*>(block.weights)[i];
    default:
      return static_cast<const float*>(block.weights)[i];
  }
}

}  // namespace

void multiply_panel_scalar(const PanelBlock& block, PanelSums sums) {
  for (std::int32_t r = 0; r < block.num_rows; ++r) {
    const float* a = block.a + std::ptrdiff_t{r} * kBlockStride;
    for (std::ptrdiff_t c = 0; c < kPanelWidth; ++c) {
      float& sum = sums.row(r)[c];
      sum = block.is_first ? 0.0F : sum;
      for (std::int32_t k = 0; k < block.block_len; ++k) {
        sum = std::fma(a[k], weight_at(block, k * kPanelWidth + c), sum);
      }
    }
  }
}

}  // namespace blendserve::cpu
