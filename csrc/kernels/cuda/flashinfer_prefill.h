#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/blendserve_cuda.h"

// Prefill by FlashInfer's kernels. Where the library is built without its headers, flashinfer_absent.cc refuses all of
// it.
namespace blendserve::cuda {

// Query rows that a sequence must have on average: for fewer FlashInfer has kernels of smaller tiles, which are left
// out.
inline constexpr std::int64_t kFlashInferMinRows = 65;

bool has_flashinfer();

// A step's sequences for it, whose query tokens follow each other.
struct FlashInferBatch {
  AttentionBatch sequences;
  std::span<const std::int32_t> block_table;
  std::int32_t block_size = 0;
};

// Enough bytes for the plan of `batch`.
std::int64_t flashinfer_plan_bytes(const FlashInferBatch& batch);

// Plans through FlashInfer's own host code; the arrays that its kernels read go to `plan` (aligned to 16 bytes). Throws
// InvalidInput on what its kernels lack here, when the batch is malformed or `plan` is too small.
blendserve_flashinfer_plan plan_flashinfer(const FlashInferBatch& batch, std::span<std::byte> plan);

// Queues the prefill kernel of one element type and head size, and the merge of what the plan has split.
template <typename T, int kHeadDim>
void launch_flashinfer_prefill(const blendserve_flashinfer_prefill_params& params, cudaStream_t stream);

// The whole operation. Throws on bad input and CUDA errors.
void flashinfer_prefill(const blendserve_flashinfer_prefill_params& params, cudaStream_t stream);

}  // namespace blendserve::cuda
