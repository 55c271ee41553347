#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "kernels/cpu/bfloat16.h"
#include "kernels/cpu/gemm.h"

namespace blendserve {

inline std::vector<float> random_floats(std::int64_t count, std::uint32_t seed) {
  std::mt19937 engine(seed);
  std::uniform_real_distribution<float> uniform(-1.0F, 1.0F);
  std::vector<float> values(static_cast<std::size_t>(count));
  std::generate(values.begin(), values.end(), [&] { return uniform(engine); });
  return values;
}

// A linear layer and the inputs of a batch. Rows of both, and of what comes out, lie `kGap` floats apart.
struct GemmCase {
  static constexpr std::int64_t kGap = 3;

  GemmCase(std::int64_t outputs, std::int64_t inputs, std::int32_t rows, cpu::WeightDtype stored, std::uint32_t seed)
      : num_outputs(outputs),
        num_inputs(inputs),
        num_rows(rows),
        dtype(stored),
        weights(random_floats(outputs * (inputs + kGap), seed)),
        a(random_floats(std::max(rows, 1) * (inputs + kGap), seed + 1)),
        bias(random_floats(outputs, seed + 2)) {}

  std::int64_t a_stride() const { return num_inputs + kGap; }
  std::int64_t out_stride() const { return num_outputs + kGap; }

  cpu::PackedMatrix pack(ThreadPool& pool) const {
    return cpu::PackedMatrix::pack(weights.data(), num_outputs, num_inputs, num_inputs + kGap, dtype, pool);
  }

  // Rows [begin, end) of the batch as a batch of their own, on top of `old`; what lies between rows stays `old` too.
  std::vector<float> multiply(const cpu::PackedMatrix& matrix, std::int32_t begin, std::int32_t end, float old,
                              ThreadPool& pool) const {
    std::vector<float> out(static_cast<std::size_t>((end - begin) * out_stride()), old);
    cpu::gemm({.a = a.data() + begin * a_stride(),
               .a_stride = a_stride(),
               .num_rows = end - begin,
               .weights = &matrix,
               .out = out.data(),
               .out_stride = out_stride(),
               .bias = with_bias ? bias.data() : nullptr,
               .accumulate = accumulate},
              pool);
    return out;
  }

  // One element by the definition in gemm.h.
  float expected(std::int32_t row, std::int64_t output, float old) const {
    const float* inputs = a.data() + row * a_stride();
    const float* from = weights.data() + output * (num_inputs + kGap);
    float largest = 0.0F;
    for (std::int64_t k = 0; k < num_inputs; ++k) largest = std::max(largest, std::abs(from[k]));
    const float scale = largest / 127.0F;
    float sum = 0.0F;
    for (std::int64_t k = 0; k < num_inputs; ++k) {
      float weight = from[k];
      if (dtype == cpu::WeightDtype::kBFloat16) weight = cpu::bfloat16_to_float(cpu::bfloat16_from_float(weight));
      if (dtype == cpu::WeightDtype::kInt8) weight = std::nearbyint(weight / scale);
      sum = std::fma(inputs[k], weight, sum);
    }
    if (dtype == cpu::WeightDtype::kInt8) sum = sum * scale;
    if (with_bias) sum = sum + bias[static_cast<std::size_t>(output)];
    return accumulate ? old + sum : sum;
  }

  std::vector<float> expected_batch(float old) const {
    std::vector<float> out(static_cast<std::size_t>(num_rows * out_stride()), old);
    for (std::int32_t row = 0; row < num_rows; ++row) {
      for (std::int64_t n = 0; n < num_outputs; ++n) {
        out[static_cast<std::size_t>(row * out_stride() + n)] = expected(row, n, old);
      }
    }
    return out;
  }

  std::int64_t num_outputs;
  std::int64_t num_inputs;
  std::int32_t num_rows;
  cpu::WeightDtype dtype;
  std::vector<float> weights;
  std::vector<float> a;
  std::vector<float> bias;
  bool with_bias = false;
  bool accumulate = false;
};

}  // namespace blendserve
