#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>

#include "kernels/cpu/isa.h"
#include "kernels/cpu/row_kernels.h"

// One source, compiled for each instruction set by a file of its own, without contraction of floating-point
// expressions. The template argument keeps what one of them inlines away from the others.
namespace blendserve::cpu {

template <Isa isa>
struct RowKernelsOf {
  static constexpr std::int64_t kLanes = 16;

  static float sum_of_squares(const float* x, std::int64_t n) {
    std::array<float, kLanes> lanes{};
    std::int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
      for (std::int64_t lane = 0; lane < kLanes; ++lane) {
        lanes[lane] = std::fma(x[i + lane], x[i + lane], lanes[lane]);
      }
    }
    for (std::int64_t lane = 0; i < n; ++i, ++lane) lanes[lane] = std::fma(x[i], x[i], lanes[lane]);
    for (std::int64_t width = kLanes / 2; width > 0; width /= 2) {
      for (std::int64_t lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
    }
    return lanes[0];
  }

  static void rms_norm(const float* x, const float* weight, float eps, std::int64_t n, float* out) {
    const float factor = 1.0F / std::sqrt(sum_of_squares(x, n) / static_cast<float>(n) + eps);
    for (std::int64_t i = 0; i < n; ++i) out[i] = x[i] * factor * weight[i];
  }

  static void rotate(float* head, const float* cos, const float* sin, std::int64_t half) {
    for (std::int64_t i = 0; i < half; ++i) {
      const float first = head[i];
      const float second = head[i + half];
      head[i] = first * cos[i] - second * sin[i];
      head[i + half] = second * cos[i] + first * sin[i];
    }
  }

  // e^x for x <= 0: exactly 1 at 0, 0 below -87, NaN for NaN. Polynomial of expf in the Cephes library (S. L. Moshier).
  static float exp_of_nonpositive(float x) {
    constexpr float kLog2E = 1.44269504F;
    constexpr float kEnd = -87.0F;
    constexpr float kRound = 12582912.0F;  // 1.5 · 2^23: adding it rounds to an integer
    const float is_in_range = x < kEnd ? 0.0F : 1.0F;
    x = x < kEnd ? kEnd : x;
    const float n = (x * kLog2E + kRound) - kRound;
    float r = std::fma(n, -0.693359375F, x);
    r = std::fma(n, 2.12194440e-4F, r);
    float p = 1.9875691500e-4F;
    p = std::fma(p, r, 1.3981999507e-3F);
    p = std::fma(p, r, 8.3334519073e-3F);
    p = std::fma(p, r, 4.1665795894e-2F);
    p = std::fma(p, r, 1.6666665459e-1F);
    p = std::fma(p, r, 5.0000001201e-1F);
    p = std::fma(p, r * r, r) + 1.0F;
    const std::int32_t exponent = static_cast<std::int32_t>(n == n ? n : 0.0F) + 127;
    return is_in_range * p * std::bit_cast<float>(exponent << 23);
  }

  // Without cancellation for either sign.
  static float sigmoid(float x) {
    const float e = exp_of_nonpositive(-std::abs(x));
    return (x < 0.0F ? e : 1.0F) / (1.0F + e);
  }

  static void silu_mul(float* gate, const float* up, std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) gate[i] = gate[i] * sigmoid(gate[i]) * up[i];
  }

  // tanh(x) = 2 · sigmoid(2x) - 1
  static void gelu_tanh_mul(float* gate, const float* up, std::int64_t n) {
    constexpr float kTwoSqrt2OverPi = 1.5957691216F;
    for (std::int64_t i = 0; i < n; ++i) {
      const float x = gate[i];
      gate[i] = x * sigmoid(kTwoSqrt2OverPi * (x + 0.044715F * x * x * x)) * up[i];
    }
  }

  static void add(float* out, const float* x, std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) out[i] += x[i];
  }

  static bool any_above(const float* x, float bound, std::int64_t n) {
    std::int32_t any = 0;  // no branch in the loop: it becomes vectors
    for (std::int64_t i = 0; i < n; ++i) any |= x[i] <= bound ? 0 : 1;
    return any != 0;
  }

  // NaN for NaN. The rational function of degrees 13 and 6 of Eigen's tanh for float, as in tanh_simd.h.
  static float tanh(float x) {
    constexpr float kEnd = 7.9053111F;
    x = x < -kEnd ? -kEnd : x;
    x = x > kEnd ? kEnd : x;
    const float y = x * x;
    float p = -2.76076847742355e-16F;
    p = std::fma(p, y, 2.00018790482477e-13F);
    p = std::fma(p, y, -8.60467152213735e-11F);
    p = std::fma(p, y, 5.12229709037114e-08F);
    p = std::fma(p, y, 1.48572235717979e-05F);
    p = std::fma(p, y, 6.37261928875436e-04F);
    p = std::fma(p, y, 4.89352455891786e-03F);
    float q = 1.19825839466702e-06F;
    q = std::fma(q, y, 1.18534705686654e-04F);
    q = std::fma(q, y, 2.26843463243900e-03F);
    q = std::fma(q, y, 4.89352518554385e-03F);
    return x * p / q;
  }

  static void softcap(float* x, float cap, std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) x[i] = cap * tanh(x[i] / cap);
  }

  static constexpr RowKernels kTable{rms_norm, rotate, silu_mul, gelu_tanh_mul, add, any_above, softcap};
};

}  // namespace blendserve::cpu
