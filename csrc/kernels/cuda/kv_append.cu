#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "base/error.h"
#include "kernels/cuda/append_work.h"
#include "kernels/cuda/device_error.h"
#include "kernels/cuda/kv_append.h"

namespace blendserve::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kMaxCtas = 4096;

// What one 16-byte access brings: as a uint4, since the compiler moves the elements of such a struct one by one.
template <typename T>
struct alignas(16) Elements {
  T at[kAppendElements];
};

template <typename T>
__device__ Elements<T> rotated_elements(const Elements<T>& x, const Elements<T>& other, const Elements<T>& cos,
                                        const Elements<T>& signed_sin) {
  Elements<T> result;
#pragma unroll
  for (int i = 0; i < kAppendElements; ++i) {
    result.at[i] = static_cast<T>(rotated(static_cast<float>(x.at[i]), static_cast<float>(other.at[i]),
                                          static_cast<float>(cos.at[i]), static_cast<float>(signed_sin.at[i]),
                                          [](float y) { return static_cast<float>(static_cast<T>(y)); }));
  }
  return result;
}

// One CTA per token at a time.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    kv_append_kernel(const __grid_constant__ blendserve_kv_append_params params) {
  const KvLayout layout{0, params.num_kv_heads, params.block_size, params.head_dim};
  const AppendWork work{params.cos == nullptr ? 0 : params.num_heads, params.num_kv_heads, params.head_dim};
  const int half = params.head_dim / 2;
  const auto at = [](const void* base, std::int64_t offset) {
    Elements<T> elements;
    *reinterpret_cast<uint4*>(&elements) = *reinterpret_cast<const uint4*>(static_cast<const T*>(base) + offset);
    return elements;
  };
  const auto put = [](void* base, std::int64_t offset, const Elements<T>& elements) {
    *reinterpret_cast<uint4*>(static_cast<T*>(base) + offset) = *reinterpret_cast<const uint4*>(&elements);
  };
  for (std::int64_t token = blockIdx.x; token < params.num_tokens; token += gridDim.x) {
    const std::int64_t slot = params.slot_mapping[token];
    for (int i = static_cast<int>(threadIdx.x); i < work.parts_of_token(); i += kThreads) {
      const HeadPart part = work.part(i);
      const bool is_value = part.kind == HeadKind::kValue;
      void* const heads = part.kind == HeadKind::kQuery ? params.q : is_value ? params.v : params.k;
      const std::int64_t stride = part.kind == HeadKind::kQuery ? params.q_stride
                                  : is_value                    ? params.v_stride
                                                                : params.k_stride;
      const std::int64_t from = token * stride + std::int64_t{part.head} * params.head_dim + part.element;
      Elements<T> first = at(heads, from);
      Elements<T> second = at(heads, from + half);
      if (params.cos != nullptr && !is_value) {
        const std::int64_t angle = token * params.head_dim + part.element;
        const Elements<T> unrotated = first;
        first = rotated_elements(first, second, at(params.cos, angle), at(params.signed_sin, angle));
        second = rotated_elements(second, unrotated, at(params.cos, angle + half), at(params.signed_sin, angle + half));
        put(heads, from, first);
        put(heads, from + half, second);
      }
      if (part.kind != HeadKind::kQuery) {
        const std::int64_t to = cache_offset(layout, slot, part);
        put(params.kv, to, first);
        put(params.kv, to + half, second);
      }
    }
  }
}

void check(const blendserve_kv_append_params& params) {
  if (params.head_dim < 2 * kAppendElements || params.head_dim % (2 * kAppendElements) != 0 ||
      params.q_stride % kAppendElements != 0 || params.k_stride % kAppendElements != 0 ||
      params.v_stride % kAppendElements != 0) {
    throw InvalidInput("head_dim is " + std::to_string(params.head_dim) + ", q_stride " +
                       std::to_string(params.q_stride) + ", k_stride " + std::to_string(params.k_stride) +
                       ", v_stride " + std::to_string(params.v_stride) +
                       "; the first must be a multiple of 16, the others of 8");
  }
  if (params.num_tokens < 0 || params.num_kv_heads < 1 || params.block_size < 1) {
    throw InvalidInput("num_tokens is " + std::to_string(params.num_tokens) + ", num_kv_heads " +
                       std::to_string(params.num_kv_heads) + ", block_size " + std::to_string(params.block_size) +
                       "; the first must be 0 or more, the others 1 or more");
  }
  if ((params.cos == nullptr) != (params.signed_sin == nullptr) ||
      (params.cos != nullptr && (params.q == nullptr || params.num_heads < 1))) {
    throw InvalidInput("a rotation needs cos, signed_sin, q and num_heads (" + std::to_string(params.num_heads) +
                       "); without one leave cos and signed_sin null");
  }
  if (params.dtype != BLENDSERVE_BFLOAT16 && params.dtype != BLENDSERVE_FLOAT16) {
    throw InvalidInput("dtype is " + std::to_string(params.dtype) + "; it must be bfloat16 (0) or float16 (1)");
  }
}

}  // namespace

void kv_append(const blendserve_kv_append_params& params, cudaStream_t stream) {
  check(params);
  if (params.num_tokens == 0) {
    return;
  }
  const auto grid = static_cast<unsigned>(std::min(kMaxCtas, params.num_tokens));
  if (params.dtype == BLENDSERVE_FLOAT16) {
    kv_append_kernel<__half><<<grid, kThreads, 0, stream>>>(params);
  } else {
    kv_append_kernel<__nv_bfloat16><<<grid, kThreads, 0, stream>>>(params);
  }
  check_cuda(cudaGetLastError(), "launching the append kernel");
}

}  // namespace blendserve::cuda
