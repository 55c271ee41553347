#include "kernels/cpu/row_kernels.h"

#include "kernels/cpu/isa.h"

namespace blendserve::cpu {

// row_kernels_scalar.cc and row_kernels_avx2.cc
extern const RowKernels kRowKernelsScalar;
#ifdef __x86_64__
extern const RowKernels kRowKernelsAvx2;
#endif

const RowKernels& row_kernels() {
#ifdef __x86_64__
  if (active_isa() != Isa::kScalar) return kRowKernelsAvx2;
#endif
  return kRowKernelsScalar;
}

}  // namespace blendserve::cpu
