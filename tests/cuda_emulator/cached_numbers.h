#pragma once

#include <cstddef>
#include <cstdint>

#include "base/rng.h"

// What the emulated kernels' tests put into a cache, and what it stands for there.
namespace blendserve::cuda {

inline float random_float(std::uint64_t key, std::size_t at) {
  return static_cast<float>(2 * random_uniform(key, at) - 1);
}

// What cached elements of type Kv are multiplied by.
template <typename Kv>
constexpr float kKeyScale = sizeof(Kv) == 1 ? 2.5F : 1.0F;
template <typename Kv>
constexpr float kValueScale = sizeof(Kv) == 1 ? 0.3F : 1.0F;

template <typename T>
double number(T x) {
  return static_cast<double>(static_cast<float>(x));
}

}  // namespace blendserve::cuda
