#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/attention_split.h"
#include "kernels/cpu/bfloat16.h"

namespace blendserve::cpu {

namespace {

// Element i of a row, counted from the first KV head's.
float load(const void* row, std::int64_t i, KvDtype dtype) {
  return dtype == KvDtype::kFloat32 ? static_cast<const float*>(row)[i]
                                    : bfloat16_to_float(static_cast<const std::uint16_t*>(row)[i]);
}

}  // namespace

void attend_split_scalar(const SplitInputs& in, float* scratch, const PartialRows& out) {
  const std::int64_t head_elements = in.head_stride / (in.kv_dtype == KvDtype::kFloat32 ? 4 : 2);
  for (std::ptrdiff_t row = 0; row < in.all_rows(); ++row) {
    const std::ptrdiff_t r = row % in.num_rows;
    const std::int64_t first = row / in.num_rows * head_elements;
    const float* q = in.q + row * in.head_dim;
    float* acc = out.acc + row * out.acc_stride;
    float max = -std::numeric_limits<float>::infinity();
    for (std::int32_t p = in.row_begins[r]; p < in.row_ends[r]; ++p) {
      float exponent = 0.0F;
      for (std::int32_t i = 0; i < in.head_dim; ++i) {
        exponent += q[i] * load(in.k_rows[p], first + i, in.kv_dtype);
      }
      if (in.exponent_cap != 0.0F) {
        exponent = in.exponent_cap * std::tanh(exponent);
      }
      scratch[p] = exponent;
      max = std::max(max, exponent);
    }
    float sum = 0.0F;
    std::fill_n(acc, in.head_dim, 0.0F);
    for (std::int32_t p = in.row_begins[r]; p < in.row_ends[r]; ++p) {
      const float weight = std::exp2(scratch[p] - max);
      sum += weight;
      for (std::int32_t i = 0; i < in.head_dim; ++i) {
        acc[i] += weight * load(in.v_rows[p], first + i, in.kv_dtype);
      }
    }
    out.max[row] = max;
    out.sum[row] = sum;
  }
}

}  // namespace blendserve::cpu
