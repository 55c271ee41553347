#include <exception>
#include <span>
#include <string>

#include "base/error.h"
#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/blendserve_cuda.h"
#include "kernels/cuda/decode_plan.h"
#include "kernels/cuda/flashinfer_prefill.h"
#include "kernels/cuda/kv_append.h"
#include "kernels/cuda/paged_attention.h"
#include "kernels/cuda/paged_decode.h"

namespace blendserve::cuda {
namespace {

thread_local std::string last_error;

// The C boundary: no exception crosses it.
template <typename Operation>
std::int32_t guarded(const char* name, Operation operation) {
  try {
    operation();
    return BLENDSERVE_OK;
  } catch (const InvalidInput& error) {
    last_error = std::string(name) + ": " + error.what();
    return BLENDSERVE_INVALID_INPUT;
  } catch (const std::exception& error) {
    last_error = std::string(name) + ": " + error.what();
    return BLENDSERVE_CUDA_ERROR;
  }
}

AttentionBatch attention_batch(const blendserve_attention_batch& batch) {
  const auto num_seqs = static_cast<std::size_t>(batch.num_seqs);
  return {.first_tokens = {batch.first_tokens, num_seqs},
          .qo_lens = {batch.qo_lens, num_seqs},
          .kv_lens = {batch.kv_lens, num_seqs},
          .first_blocks = {batch.first_blocks, num_seqs},
          .num_kv_heads = batch.num_kv_heads,
          .group = batch.group,
          .head_dim = batch.head_dim,
          .window = batch.window,
          .num_ctas = batch.num_ctas};
}

}  // namespace
}  // namespace blendserve::cuda

using namespace blendserve::cuda;

int32_t blendserve_cuda_abi_version(void) { return BLENDSERVE_CUDA_ABI_VERSION; }

const char* blendserve_last_error(void) { return last_error.c_str(); }

int64_t blendserve_decode_plan_bytes(int32_t max_rows, int32_t num_kv_heads, int32_t num_ctas, int64_t max_partials) {
  return decode_plan_bytes(max_rows, num_kv_heads, num_ctas, max_partials);
}

int32_t blendserve_decode_plan(const blendserve_decode_batch* batch, void* host_plan, int64_t host_plan_bytes,
                               blendserve_decode_plan_summary* summary) {
  return guarded("decode_plan", [&] {
    const auto num_rows = static_cast<std::size_t>(batch->num_rows);
    const auto num_blocks = static_cast<std::size_t>(batch->block_table == nullptr ? 0 : batch->num_blocks);
    const std::span plan(static_cast<std::byte*>(host_plan), static_cast<std::size_t>(host_plan_bytes));
    summary->used_bytes = plan_decode({.kv_lens = {batch->kv_lens, num_rows},
                                       .block_indptr = {batch->block_indptr, num_rows + 1},
                                       .block_table = {batch->block_table, num_blocks},
                                       .num_kv_heads = batch->num_kv_heads,
                                       .group = batch->group,
                                       .head_dim = batch->head_dim,
                                       .block_size = batch->block_size,
                                       .num_ctas = batch->num_ctas,
                                       .max_partials = batch->max_partials,
                                       .kv_element_bytes = batch->kv_element_bytes},
                                      plan);
    const DecodePlanHeader& header = DecodePlanView(host_plan, batch->num_ctas).header();
    summary->num_partials = header.num_partials;
    summary->num_shared_items = header.num_shared_items;
  });
}

int64_t blendserve_decode_partial_bytes(int32_t group, int32_t head_dim) {
  return decode_partial_bytes(group, head_dim);
}

int32_t blendserve_paged_decode(const blendserve_paged_decode_params* params, int64_t stream) {
  return guarded("paged_decode", [&] { paged_decode(*params, reinterpret_cast<cudaStream_t>(stream)); });
}

int64_t blendserve_attention_plan_bytes(const blendserve_attention_batch* batch) {
  return attention_plan_bytes(attention_batch(*batch));
}

int32_t blendserve_attention_plan(const blendserve_attention_batch* batch, void* host_plan, int64_t host_plan_bytes,
                                  int64_t* used_bytes) {
  return guarded("attention_plan", [&] {
    const std::span plan(static_cast<std::byte*>(host_plan), static_cast<std::size_t>(host_plan_bytes));
    *used_bytes = plan_attention(attention_batch(*batch), plan);
  });
}

int64_t blendserve_attention_workspace_bytes(int32_t num_ctas, int32_t head_dim) {
  return attention_workspace_bytes(num_ctas, head_dim);
}

int32_t blendserve_paged_attention(const blendserve_paged_attention_params* params, int64_t stream) {
  return guarded("paged_attention", [&] { paged_attention(*params, reinterpret_cast<cudaStream_t>(stream)); });
}

int32_t blendserve_has_flashinfer(void) { return has_flashinfer() ? 1 : 0; }

int64_t blendserve_flashinfer_plan_bytes(const blendserve_attention_batch* batch, int32_t block_size) {
  return flashinfer_plan_bytes({attention_batch(*batch), {}, block_size});
}

int32_t blendserve_flashinfer_plan_prefill(const blendserve_attention_batch* batch, const int32_t* block_table,
                                           int64_t num_table_blocks, int32_t block_size, void* host_plan,
                                           int64_t host_plan_bytes, blendserve_flashinfer_plan* planned) {
  return guarded("flashinfer_plan_prefill", [&] {
    const std::span plan(static_cast<std::byte*>(host_plan), static_cast<std::size_t>(host_plan_bytes));
    const std::span blocks(block_table, static_cast<std::size_t>(num_table_blocks));
    *planned = plan_flashinfer({attention_batch(*batch), blocks, block_size}, plan);
  });
}

int32_t blendserve_flashinfer_prefill(const blendserve_flashinfer_prefill_params* params, int64_t stream) {
  return guarded("flashinfer_prefill", [&] { flashinfer_prefill(*params, reinterpret_cast<cudaStream_t>(stream)); });
}

int32_t blendserve_kv_append(const blendserve_kv_append_params* params, int64_t stream) {
  return guarded("kv_append", [&] { kv_append(*params, reinterpret_cast<cudaStream_t>(stream)); });
}
