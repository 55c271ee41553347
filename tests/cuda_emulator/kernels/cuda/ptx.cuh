#pragma once

// Stands in for csrc/kernels/cuda/ptx.cuh where the kernels run on the CPU: the same functions, by their definition in
// the PTX manual. Compiled as for sm_90.
#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "emulated_grid.h"

#undef __shared__
#undef __launch_bounds__
#undef __grid_constant__
#define __shared__
#define __launch_bounds__(...)
#define __grid_constant__
#define __CUDA_ARCH__ 900

inline void __syncthreads() { cuda_emulator::current_cta().barrier.wait(); }
inline void __syncwarp() { cuda_emulator::current_warp().barrier.wait(); }

template <typename Value>
Value __shfl_sync(unsigned, Value value, int lane) {
  return cuda_emulator::exchange(value)[static_cast<std::size_t>(lane)];
}
template <typename Value>
Value __shfl_xor_sync(unsigned, Value value, int mask) {
  return cuda_emulator::exchange(value)[static_cast<std::size_t>(cuda_emulator::current_lane() ^ mask)];
}
inline bool __any_sync(unsigned, bool value) {
  const auto all = cuda_emulator::exchange(value);
  return std::any_of(all.begin(), all.end(), [](bool each) { return each; });
}

inline std::uint32_t __byte_perm(std::uint32_t a, std::uint32_t b, std::uint32_t selector) {
  const std::uint64_t bytes = a | static_cast<std::uint64_t>(b) << 32;
  std::uint32_t chosen = 0;
  for (int i = 0; i < 4; ++i) {
    chosen |= static_cast<std::uint32_t>(bytes >> (selector >> 4 * i & 7U) * 8 & 0xFFU) << 8 * i;
  }
  return chosen;
}

namespace blendserve::cuda {

using std::min;

namespace ptx {

using cuda_emulator::current_lane;
using cuda_emulator::exchange;

inline constexpr std::uint32_t kNotYetKnown = ~0U;

inline std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(static_cast<const unsigned char*>(pointer) - shared);
}

struct Pair {
  std::uint16_t low;
  std::uint16_t high;
};

inline Pair halves(std::uint32_t word) {
  return {static_cast<std::uint16_t>(word & 0xFFFFU), static_cast<std::uint16_t>(word >> 16)};
}
inline std::uint32_t word(std::uint16_t low, std::uint16_t high) {
  return low | static_cast<std::uint32_t>(high) << 16;
}

inline void load_matrices(std::uint32_t (&r)[4], std::uint32_t address, bool transposed) {
  const auto rows = exchange(address);
  const auto element = [&](int matrix, int row, int column) {
    const std::uint32_t at = rows[static_cast<std::size_t>(matrix * 8 + row)];
    std::uint16_t value;
    std::memcpy(&value, shared + at + column * 2, 2);
    return value;
  };
  const int major = current_lane() / 4;
  const int minor = current_lane() % 4 * 2;
  for (int m = 0; m < 4; ++m) {
    r[m] = transposed ? word(element(m, minor, major), element(m, minor + 1, major))
                      : word(element(m, major, minor), element(m, major, minor + 1));
  }
}
inline void load_matrices(std::uint32_t (&r)[4], std::uint32_t address) { load_matrices(r, address, false); }
inline void load_matrices_transposed(std::uint32_t (&r)[4], std::uint32_t address) { load_matrices(r, address, true); }

inline std::uint32_t transpose_matrix(std::uint32_t value) {
  const auto all = exchange(value);
  const auto element = [&](int row, int column) {
    const Pair pair = halves(all[static_cast<std::size_t>(row * 4 + column / 2)]);
    return column % 2 == 0 ? pair.low : pair.high;
  };
  const int row = current_lane() % 4 * 2;
  const int column = current_lane() / 4;
  return word(element(row, column), element(row + 1, column));
}

template <typename T>
float to_float(std::uint16_t bits) {
  T value;
  std::memcpy(static_cast<void*>(&value), &bits, 2);
  return static_cast<float>(value);
}

template <typename T>
void multiply_add(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  const auto lanes_a = exchange(std::array{a[0], a[1], a[2], a[3]});
  const auto lanes_b = exchange(std::array{b[0], b[1]});
  const auto at = [](const auto& lanes, int row, int k, int reg) {  // element k of a row that a group of 4 lanes holds
    const Pair pair = halves(lanes[static_cast<std::size_t>(row * 4 + k % 8 / 2)][static_cast<std::size_t>(reg)]);
    return to_float<T>(k % 2 == 0 ? pair.low : pair.high);
  };
  for (int i = 0; i < 4; ++i) {
    const int column = current_lane() % 4 * 2 + i % 2;
    for (int k = 0; k < 16; ++k) {
      d[i] += at(lanes_a, current_lane() / 4, k, i / 2 + k / 8 * 2) * at(lanes_b, column, k, k / 8);
    }
  }
}

template <typename T>
std::uint32_t pack(float low, float high) {
  const T values[2] = {T(low), T(high)};
  std::uint32_t packed;
  std::memcpy(&packed, values, 4);
  return packed;
}

template <typename T>
std::uint32_t to_half_pair(std::uint32_t pair) {
  return pack<__half>(to_float<T>(halves(pair).low), to_float<T>(halves(pair).high));
}

inline void unpack_e4m3(std::uint32_t word, std::uint32_t& low, std::uint32_t& high) {
  const auto unpack = [](std::uint16_t pair) {
    const __half2_raw values = __nv_cvt_fp8x2_to_halfraw2(pair, __NV_E4M3);
    return blendserve::cuda::ptx::word(values.x, values.y);
  };
  low = unpack(halves(word).low);
  high = unpack(halves(word).high);
}

inline float exp2_approx(float x) { return exp2f(x); }

// An mbarrier in its 8 bytes of shared memory.
struct SharedBarrier {
  std::uint32_t phase;
  std::uint16_t num_pending;
  std::uint16_t num_arrivals;
};

inline SharedBarrier& barrier_at(std::uint32_t address) { return *reinterpret_cast<SharedBarrier*>(shared + address); }

inline void init_barrier(std::uint32_t barrier, std::uint32_t arrivals) {
  const auto count = static_cast<std::uint16_t>(arrivals);
  barrier_at(barrier) = {0, count, count};
}

inline void arrive(std::uint32_t barrier) {
  SharedBarrier& at = barrier_at(barrier);
  if (--at.num_pending == 0) {
    at.num_pending = at.num_arrivals;
    ++at.phase;
  }
}

// Lands the copies that `chosen` picks.
template <typename Chosen>
void land(Chosen chosen) {
  auto& pending = cuda_emulator::current_cta().pending;
  for (std::size_t i = 0; i < pending.size();) {
    if (chosen(pending[i])) {
      const auto copy = pending[i].land;
      pending.erase(pending.begin() + static_cast<std::ptrdiff_t>(i));
      copy();
    } else {
      ++i;
    }
  }
}

template <typename Copy>
void issue(std::uint32_t barrier, Copy copy) {
  if (cuda_emulator::copies_land_late) {
    cuda_emulator::current_cta().pending.push_back({barrier, threadIdx.x, copy});
  } else {
    copy();
  }
}

inline void copy_async_16(std::uint32_t shared_to, const void* from) {
  issue(kNotYetKnown, [=] { std::memcpy(shared + shared_to, from, 16); });
}

inline void copy_async_16_or_zero(std::uint32_t shared_to, const void* from, bool is_there) {
  if (is_there) {
    copy_async_16(shared_to, from);
  } else {
    issue(kNotYetKnown, [=] { std::memset(shared + shared_to, 0, 16); });
  }
}

inline void arrive_after_async_copies(std::uint32_t barrier) {
  for (auto& copy : cuda_emulator::current_cta().pending) {
    if (copy.thread == threadIdx.x && copy.barrier == kNotYetKnown) {
      copy.barrier = barrier;
    }
  }
  issue(barrier, [=] { arrive(barrier); });
}

inline void wait_barrier(std::uint32_t barrier, std::uint32_t parity) {
  while (barrier_at(barrier).phase % 2 == parity) {
    land([&](const auto& copy) { return copy.barrier == barrier; });
    cuda_emulator::yield();
  }
}

// The arrival is that of the copy, which is the only one.
inline void arrive_expecting(std::uint32_t, std::uint32_t) {}
inline void fence_barrier_init() {}

// What the tests put into a CUtensorMap.
struct EmulatedTensorMap {
  const unsigned char* kv;
  std::int64_t v_distance;  // in bytes, as the others
  std::int32_t row_bytes;
};

// 16 rows of K and V in panels of 128 bytes, or of 64 if a row has no more, with the swizzle of that width: bits 4 and
// up of an address, as many as name a chunk of a row, are changed by the bits from 7 on.
inline void copy_bulk_tensor(std::uint32_t shared_to, const CUtensorMap* map, std::int32_t first_row,
                             std::uint32_t barrier) {
  const auto& tensor = *reinterpret_cast<const EmulatedTensorMap*>(map);
  issue(barrier, [=] {
    const std::int32_t width = std::min(tensor.row_bytes, 128);
    const auto mask = static_cast<std::uint32_t>(width / 16 - 1);
    std::uint32_t to = shared_to;
    for (std::int64_t side = 0; side < 2; ++side) {
      for (std::int64_t panel = 0; panel < tensor.row_bytes / width; ++panel) {
        for (std::uint32_t row = 0; row < 16; ++row) {
          const unsigned char* from =
              tensor.kv + side * tensor.v_distance + (first_row + std::int64_t{row}) * tensor.row_bytes + panel * width;
          for (std::int32_t chunk = 0; chunk < width / 16; ++chunk, to += 16) {
            std::memcpy(shared + (to ^ (to >> 7 & mask) << 4), from + chunk * 16, 16);
          }
        }
      }
    }
    arrive(barrier);
  });
}

}  // namespace ptx
}  // namespace blendserve::cuda
