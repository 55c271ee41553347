// Compiled for AVX-512.
#include "kernels/cpu/avx512.h"
#include "kernels/cpu/gemm_simd.h"

namespace blendserve::cpu {

namespace {

struct Vector : Avx512 {
  static constexpr std::int32_t kMaxRows = 14;  // 28 sums, 2 vectors of weights and 1 of a in 32 registers
};

}  // namespace

void multiply_panel_avx512(const PanelBlock& block, PanelSums sums) { simd::multiply_panel<Vector>(block, sums); }

}  // namespace blendserve::cpu
