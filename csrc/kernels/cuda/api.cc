#include <exception>
#include <span>
#include <string>

#include "base/error.h"
#include "kernels/cuda/blendserve_cuda.h"
#include "kernels/cuda/decode_plan.h"
#include "kernels/cuda/kv_append.h"
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

}  // namespace
}  // namespace blendserve::cuda

using namespace blendserve::cuda;

int32_t blendserve_cuda_abi_version(void) { return BLENDSERVE_CUDA_ABI_VERSION; }

const char* blendserve_last_error(void) { return last_error.c_str(); }

int64_t blendserve_decode_plan_bytes(int32_t max_rows, int32_t num_kv_heads, int32_t num_ctas) {
  return decode_plan_bytes(max_rows, num_kv_heads, num_ctas);
}

int32_t blendserve_decode_plan(const int32_t* host_kv_lens, const int32_t* host_block_indptr, int32_t num_rows,
                               int32_t num_kv_heads, int32_t num_ctas, void* host_plan, int64_t host_plan_bytes,
                               int64_t* used_bytes) {
  return guarded("decode_plan", [&] {
    const auto rows = static_cast<std::size_t>(num_rows);
    *used_bytes = plan_decode({.kv_lens = {host_kv_lens, rows},
                               .block_indptr = {host_block_indptr, rows + 1},
                               .num_kv_heads = num_kv_heads,
                               .num_ctas = num_ctas},
                              {static_cast<std::byte*>(host_plan), static_cast<std::size_t>(host_plan_bytes)});
  });
}

int64_t blendserve_decode_workspace_bytes(int32_t group, int32_t head_dim, int32_t num_ctas) {
  const auto query_bytes = static_cast<int64_t>(head_dim * sizeof(float) + sizeof(SoftmaxState));
  return max_decode_partials(num_ctas) * group * query_bytes;
}

int32_t blendserve_paged_decode(const blendserve_paged_decode_params* params, int64_t stream) {
  return guarded("paged_decode", [&] { paged_decode(*params, reinterpret_cast<cudaStream_t>(stream)); });
}

int32_t blendserve_kv_append(const blendserve_kv_append_params* params, int64_t stream) {
  return guarded("kv_append", [&] { kv_append(*params, reinterpret_cast<cudaStream_t>(stream)); });
}
