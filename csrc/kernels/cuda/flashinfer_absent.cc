#include "base/error.h"
#include "kernels/cuda/flashinfer_prefill.h"

namespace blendserve::cuda {
namespace {

[[noreturn]] void refuse() {
  throw InvalidInput(
      "this library was built without FlashInfer's kernels; build it with `make cuda FLASHINFER=on`, or use the "
      "native_cuda attention backend");
}

}  // namespace

bool has_flashinfer() { return false; }

std::int64_t flashinfer_plan_bytes(const FlashInferBatch&) { return 0; }

blendserve_flashinfer_plan plan_flashinfer(const FlashInferBatch&, std::span<std::byte>) { refuse(); }

void flashinfer_prefill(const blendserve_flashinfer_prefill_params&, cudaStream_t) { refuse(); }

}  // namespace blendserve::cuda
