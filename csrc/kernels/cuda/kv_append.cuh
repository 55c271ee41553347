#pragma once

#include <cuda_fp8.h>

#include <cstdint>
#include <type_traits>

#include "kernels/cuda/append_work.h"
#include "kernels/cuda/blendserve_cuda.h"
#include "kernels/cuda/ptx.cuh"

namespace blendserve::cuda {

inline constexpr int kAppendThreads = 128;

// What one access brings, 16 bytes or 8 of e4m3: as a word of so many, since the compiler moves the elements of such a
// struct one by one.
template <typename T>
struct alignas(kAppendElements * sizeof(T)) Elements {
  using Word = std::conditional_t<sizeof(T) == 1, uint2, uint4>;
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

// As the cache keeps them: e4m3 rounds to nearest, ties to even, and saturates.
template <typename Kv, typename T>
__device__ Elements<Kv> cached_elements(const Elements<T>& x, float inverse_scale) {
  if constexpr (std::is_same_v<Kv, T>) {
    return x;
  } else {
    Elements<Kv> result;
#pragma unroll
    for (int i = 0; i < kAppendElements; ++i) {
      result.at[i] = static_cast<Kv>(static_cast<float>(x.at[i]) * inverse_scale);
    }
    return result;
  }
}

// One CTA per token at a time.
template <typename T, typename Kv>
__global__ void __launch_bounds__(kAppendThreads)
    kv_append_kernel(const __grid_constant__ blendserve_kv_append_params params) {
  const KvLayout layout{0, params.num_kv_heads, params.block_size, params.head_dim};
  const AppendWork work{params.cos == nullptr ? 0 : params.num_heads, params.num_kv_heads, params.head_dim};
  const int half = params.head_dim / 2;
  const auto at = [](const void* base, std::int64_t offset) {
    Elements<T> elements;
    *reinterpret_cast<uint4*>(&elements) = *reinterpret_cast<const uint4*>(static_cast<const T*>(base) + offset);
    return elements;
  };
  const auto put = []<typename Kind>(void* base, std::int64_t offset, const Elements<Kind>& elements) {
    using Word = typename Elements<Kind>::Word;
    *reinterpret_cast<Word*>(static_cast<Kind*>(base) + offset) = *reinterpret_cast<const Word*>(&elements);
  };
  for (std::int64_t token = blockIdx.x; token < params.num_tokens; token += gridDim.x) {
    const std::int64_t slot = params.slot_mapping[token];
    for (int i = static_cast<int>(threadIdx.x); i < work.parts_of_token(); i += kAppendThreads) {
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
        const float inverse_scale = 1.0F / (is_value ? params.v_scale : params.k_scale);
        put(params.kv, to, cached_elements<Kv>(first, inverse_scale));
        put(params.kv, to + half, cached_elements<Kv>(second, inverse_scale));
      }
    }
  }
}

}  // namespace blendserve::cuda
