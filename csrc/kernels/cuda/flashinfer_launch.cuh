#pragma once

#include <cstdint>
#include <flashinfer/attention/default_prefill_params.cuh>
#include <flashinfer/attention/prefill.cuh>
#include <flashinfer/attention/variants.cuh>

#include "kernels/cuda/device_error.h"
#include "kernels/cuda/flashinfer_prefill.h"

namespace blendserve::cuda {

template <typename T, int kHeadDim>
void launch_flashinfer_prefill(const blendserve_flashinfer_prefill_params& params, cudaStream_t stream) {
  using Params = flashinfer::BatchPrefillPagedParams<T, T, T, std::int32_t>;
  using Variant = flashinfer::DefaultAttention<false, false, false, false>;
  const blendserve_flashinfer_plan& plan = params.planned;
  const auto indices = [&](std::int64_t offset) {
    return reinterpret_cast<std::int32_t*>(static_cast<std::byte*>(const_cast<void*>(params.plan)) + offset);
  };
  auto* keys = static_cast<T*>(const_cast<void*>(params.kv));
  const std::int64_t head_stride = std::int64_t{params.block_size} * kHeadDim;
  const std::int64_t strides[3] = {2 * params.num_kv_heads * head_stride, head_stride, kHeadDim};
  const flashinfer::paged_kv_t<T, std::int32_t> pages(
      static_cast<std::uint32_t>(params.num_kv_heads), static_cast<std::uint32_t>(params.block_size), kHeadDim,
      static_cast<std::uint32_t>(plan.num_seqs), flashinfer::QKVLayout::kHND, keys,
      keys + params.num_kv_heads * head_stride, strides, indices(plan.pages), indices(plan.page_indptr),
      indices(plan.last_page_lens));
  auto* q = static_cast<T*>(const_cast<void*>(params.q)) + plan.first_token * params.q_stride;
  auto* out = static_cast<T*>(params.out) + std::int64_t{plan.first_token} * params.num_heads * kHeadDim;
  Params call(q, pages, nullptr, indices(plan.q_indptr), nullptr, nullptr, out, nullptr, nullptr,
              static_cast<std::uint32_t>(params.num_heads), static_cast<std::int32_t>(params.q_stride), kHeadDim,
              /*window_left=*/-1, /*logits_soft_cap=*/0.0F, params.scale, /*rope_scale=*/1.0F, /*rope_theta=*/1e4F);
  call.request_indices = indices(plan.requests);
  call.qo_tile_indices = indices(plan.q_tiles);
  call.kv_tile_indices = indices(plan.kv_tiles);
  call.merge_indptr = indices(plan.merge_indptr);
  call.o_indptr = indices(plan.o_indptr);
  call.kv_chunk_size_ptr = indices(plan.chunk_tokens);
  call.max_total_num_rows = static_cast<std::uint32_t>(plan.num_tokens);
  call.padded_batch_size = static_cast<std::uint32_t>(plan.num_tiles);
  T* partial_outputs = plan.num_partial_tokens == 0 ? nullptr : static_cast<T*>(params.workspace);
  auto* partial_states = reinterpret_cast<float*>(static_cast<T*>(params.workspace) +
                                                  plan.num_partial_tokens * params.num_heads * std::int64_t{kHeadDim});
  check_cuda(flashinfer::BatchPrefillWithPagedKVCacheDispatched<
                 /*SAME_KV_STRIDES=*/true, kTileRows, kHeadDim, kHeadDim, flashinfer::PosEncodingMode::kNone,
                 /*USE_FP16_QK_REDUCTION=*/false, flashinfer::MaskMode::kCausal, Variant>(
                 call, partial_outputs, partial_states, /*enable_pdl=*/false, stream),
             "launching FlashInfer's prefill");
}

}  // namespace blendserve::cuda
