#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/cpu/packed_matrix.h"

namespace blendserve {

struct Linear {
  std::shared_ptr<const cpu::PackedMatrix> weights;
  std::vector<float> bias;  // [num_outputs], or empty

  // Throws InvalidInput that names `name` unless the sizes are as wanted.
  void check(const std::string& name, std::int64_t num_outputs, std::int64_t num_inputs) const;
};

// Rows of floats that lie one after another.
struct Rows {
  float* data;
  std::int64_t len;

  float* operator[](std::int64_t row) const { return data + row * len; }
};

// out = linear(in) for the first num_rows rows, or out += linear(in).
void multiply(Rows in, const Linear& linear, Rows out, bool accumulate, std::int32_t num_rows, ThreadPool& pool);

}  // namespace blendserve
