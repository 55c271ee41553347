// Compiled for AVX2 and FMA.
#include "kernels/cpu/avx2.h"
#include "kernels/cpu/gemm_simd.h"

namespace blendserve::cpu {

void multiply_panel_avx2(const PanelBlock& block, PanelSums sums) { simd::multiply_panel<Avx2>(block, sums); }

}  // namespace blendserve::cpu
