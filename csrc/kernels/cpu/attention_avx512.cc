// Compiled for AVX-512.
#include "kernels/cpu/attention_simd.h"
#include "kernels/cpu/avx512.h"

namespace blendserve::cpu {

void attend_split_avx512(const SplitInputs& in, float* scratch, const PartialRows& out) {
  simd::attend_split<Avx512>(in, scratch, out);
}

}  // namespace blendserve::cpu
