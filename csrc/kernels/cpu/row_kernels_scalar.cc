#include "kernels/cpu/row_kernels_of.h"

namespace blendserve::cpu {

extern const RowKernels kRowKernelsScalar;
const RowKernels kRowKernelsScalar = RowKernelsOf<Isa::kScalar>::kTable;

}  // namespace blendserve::cpu
