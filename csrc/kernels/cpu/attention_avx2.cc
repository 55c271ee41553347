// Compiled for AVX2 and FMA.
#include "kernels/cpu/attention_simd.h"
#include "kernels/cpu/avx2.h"

namespace blendserve::cpu {

void attend_split_avx2(const SplitInputs& in, float* scratch, const PartialRows& out) {
  simd::attend_split<Avx2>(in, scratch, out);
}

}  // namespace blendserve::cpu
