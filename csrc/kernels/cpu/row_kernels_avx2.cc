#include "kernels/cpu/row_kernels_of.h"

namespace blendserve::cpu {

extern const RowKernels kRowKernelsAvx2;
const RowKernels kRowKernelsAvx2 = RowKernelsOf<Isa::kAvx2>::kTable;

}  // namespace blendserve::cpu
