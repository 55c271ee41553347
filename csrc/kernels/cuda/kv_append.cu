#include <algorithm>
#include <cstdint>
#include <string>

#include "base/error.h"
#include "base/kv_layout.h"
#include "kernels/cuda/device_error.h"
#include "kernels/cuda/kv_append.h"

namespace blendserve::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kMaxCtas = 1024;
constexpr int kChunk = 8;  // elements of one 16-byte access

// One thread per chunk of a new key or value.
__global__ void __launch_bounds__(kThreads)
    kv_append_kernel(const __grid_constant__ blendserve_kv_append_params params) {
  const KvLayout layout{0, params.num_kv_heads, params.block_size, params.head_dim};
  const int head_chunks = params.head_dim / kChunk;
  const int side_chunks = params.num_kv_heads * head_chunks;
  const std::int64_t num_chunks = std::int64_t{params.num_tokens} * 2 * side_chunks;
  for (std::int64_t at = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; at < num_chunks;
       at += std::int64_t{gridDim.x} * kThreads) {
    const auto token = static_cast<std::int32_t>(at / (2 * side_chunks));
    const auto in_token = static_cast<std::int32_t>(at % (2 * side_chunks));
    const bool is_value = in_token >= side_chunks;
    const std::int32_t in_side = is_value ? in_token - side_chunks : in_token;
    const std::int32_t kv_head = in_side / head_chunks;
    const std::int64_t slot = params.slot_mapping[token];
    const auto block = static_cast<BlockId>(slot / params.block_size);
    const std::int64_t tile = is_value ? layout.v_offset(block, kv_head) : layout.k_offset(block, kv_head);
    const std::int64_t to = tile + slot % params.block_size * params.head_dim + in_side % head_chunks * kChunk;
    const auto* from = static_cast<const std::uint16_t*>(is_value ? params.v : params.k) +
                       token * (is_value ? params.v_stride : params.k_stride) + in_side * kChunk;
    *reinterpret_cast<uint4*>(static_cast<std::uint16_t*>(params.kv) + to) = *reinterpret_cast<const uint4*>(from);
  }
}

}  // namespace

void kv_append(const blendserve_kv_append_params& params, cudaStream_t stream) {
  if (params.head_dim < kChunk || params.head_dim % kChunk != 0 || params.k_stride % kChunk != 0 ||
      params.v_stride % kChunk != 0) {
    throw InvalidInput("head_dim is " + std::to_string(params.head_dim) + ", k_stride " +
                       std::to_string(params.k_stride) + ", v_stride " + std::to_string(params.v_stride) +
                       "; each must be a multiple of 8");
  }
  if (params.num_tokens < 0 || params.num_kv_heads < 1 || params.block_size < 1) {
    throw InvalidInput("num_tokens is " + std::to_string(params.num_tokens) + ", num_kv_heads " +
                       std::to_string(params.num_kv_heads) + ", block_size " + std::to_string(params.block_size) +
                       "; the first must be 0 or more, the others 1 or more");
  }
  if (params.num_tokens == 0) {
    return;
  }
  const std::int64_t num_chunks = std::int64_t{params.num_tokens} * 2 * params.num_kv_heads * params.head_dim / kChunk;
  const auto grid = static_cast<unsigned>(std::min<std::int64_t>(kMaxCtas, (num_chunks + kThreads - 1) / kThreads));
  kv_append_kernel<<<grid, kThreads, 0, stream>>>(params);
  check_cuda(cudaGetLastError(), "launching the append kernel");
}

}  // namespace blendserve::cuda
