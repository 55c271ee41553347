#include "kernels/cpu/row_kernels.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <vector>

#include "base/rng.h"
#include "kernels/cpu/isa.h"

namespace blendserve::cpu {
namespace {

constexpr std::int64_t kLens[] = {1, 2, 15, 16, 17, 64, 577};

std::vector<float> random_row(std::uint64_t seed, std::int64_t n, float scale = 4.0F) {
  std::vector<float> row(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < row.size(); ++i) {
    row[i] = scale * static_cast<float>(2 * random_uniform(seed, i) - 1);
  }
  return row;
}

// Runs with each instruction set of this processor, checks that the bits agree, and returns them.
template <typename Run>
std::vector<float> on_every_isa(const std::vector<float>& row, const Run& run) {
  std::vector<float> expected;
  for (const Isa isa : {Isa::kScalar, Isa::kAvx2}) {
    if (isa > best_isa()) continue;
    set_active_isa(to_string(isa));
    std::vector<float> out = row;
    run(row_kernels(), out);
    if (expected.empty()) expected = out;
    CHECK(out == expected);
  }
  set_active_isa("auto");
  return expected;
}

void check_close(const std::vector<float>& out, const std::vector<double>& expected) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    CHECK(out[i] == Approx(expected[i]).epsilon(2e-6).margin(1e-6));
  }
}

template <typename Function>
std::vector<double> each(const std::vector<float>& row, const Function& function) {
  std::vector<double> values(row.size());
  for (std::size_t i = 0; i < row.size(); ++i) values[i] = function(static_cast<double>(row[i]), i);
  return values;
}

}  // namespace

TEST_CASE("rows are normed by their root mean square") {
  for (const std::int64_t n : kLens) {
    const auto row = random_row(1, n);
    const auto weight = random_row(2, n);
    double squares = 0;
    for (const float x : row) squares += double{x} * double{x};
    const double norm = std::sqrt(squares / static_cast<double>(n) + 1e-5);
    const auto out = on_every_isa(row, [&](const RowKernels& kernels, std::vector<float>& values) {
      kernels.rms_norm(values.data(), weight.data(), 1e-5F, n, values.data());
    });
    check_close(out, each(row, [&](double x, std::size_t i) { return x / norm * double{weight[i]}; }));
  }
}

TEST_CASE("a head is rotated pair by pair") {
  for (const std::int64_t half : {1, 3, 32, 64}) {
    const auto head = random_row(3, 2 * half);
    std::vector<float> cos;
    std::vector<float> sin;
    for (std::int64_t i = 0; i < half; ++i) {
      cos.push_back(std::cos(0.7F * static_cast<float>(i)));
      sin.push_back(std::sin(0.7F * static_cast<float>(i)));
    }
    const auto out = on_every_isa(head, [&](const RowKernels& kernels, std::vector<float>& values) {
      kernels.rotate(values.data(), cos.data(), sin.data(), half);
    });
    const auto h = static_cast<std::size_t>(half);
    check_close(out, each(head, [&](double x, std::size_t i) {
                  return i < h ? x * cos[i] - double{head[i + h]} * sin[i]
                               : x * cos[i - h] + double{head[i - h]} * sin[i - h];
                }));
  }
}

TEST_CASE("gates are SiLU and GELU of the whole range of float") {
  for (const float scale : {0.01F, 4.0F, 100.0F, 1e10F, 7e37F}) {
    const auto gate = random_row(4, 577, scale);
    const auto up = random_row(5, 577);
    const auto silu = on_every_isa(gate, [&](const RowKernels& kernels, std::vector<float>& values) {
      kernels.silu_mul(values.data(), up.data(), 577);
    });
    check_close(silu, each(gate, [&](double x, std::size_t i) { return x / (1 + std::exp(-x)) * double{up[i]}; }));
    const auto gelu = on_every_isa(gate, [&](const RowKernels& kernels, std::vector<float>& values) {
      kernels.gelu_tanh_mul(values.data(), up.data(), 577);
    });
    check_close(gelu, each(gate, [&](double x, std::size_t i) {
                  const double inner = std::sqrt(2 / 3.14159265358979) * (x + 0.044715 * x * x * x);
                  return 0.5 * x * (1 + std::tanh(inner)) * double{up[i]};
                }));
  }
}

TEST_CASE("a single value above the bound is seen wherever it is, and so is a NaN") {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  for (const std::int64_t n : kLens) {
    const std::vector<float> row(static_cast<std::size_t>(n), 2.0F);
    on_every_isa(row, [&](const RowKernels& kernels, std::vector<float>& values) {
      CHECK_FALSE(kernels.any_above(values.data(), 2.0F, n));
      CHECK(kernels.any_above(values.data(), kNan, n));
      for (float& value : values) {
        for (const float above : {2.5F, kNan}) {
          value = above;
          CHECK(kernels.any_above(values.data(), 2.0F, n));
        }
        value = 2.0F;
      }
    });
  }
}

TEST_CASE("a softcap is a scaled tanh") {
  const auto row = random_row(6, 577, 200.0F);
  const auto out = on_every_isa(
      row, [&](const RowKernels& kernels, std::vector<float>& values) { kernels.softcap(values.data(), 30.0F, 577); });
  for (std::size_t i = 0; i < row.size(); ++i) {
    CHECK(out[i] == Approx(30 * std::tanh(double{row[i]} / 30)).epsilon(1e-6));
  }
}

TEST_CASE("a NaN stays in its place") {
  auto gate = random_row(7, 33);
  const auto up = random_row(8, 33);
  gate[5] = std::numeric_limits<float>::quiet_NaN();
  row_kernels().silu_mul(gate.data(), up.data(), 33);
  CHECK(std::isnan(gate[5]));
  CHECK(std::ranges::count_if(gate, [](float x) { return std::isnan(x); }) == 1);
}

}  // namespace blendserve::cpu
