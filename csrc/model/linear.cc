#include "model/linear.h"

#include "base/error.h"
#include "kernels/cpu/gemm.h"

namespace blendserve {

void Linear::check(const std::string& name, std::int64_t num_outputs, std::int64_t num_inputs) const {
  if (weights->num_outputs() != num_outputs || weights->num_inputs() != num_inputs) {
    throw InvalidInput(name + " has the shape [" + std::to_string(weights->num_outputs()) + ", " +
                       std::to_string(weights->num_inputs()) + "]; it must have [" + std::to_string(num_outputs) +
                       ", " + std::to_string(num_inputs) + "]");
  }
  if (!bias.empty() && static_cast<std::int64_t>(bias.size()) != num_outputs) {
    throw InvalidInput(name + " has a bias of " + std::to_string(bias.size()) + " elements; it must have " +
                       std::to_string(num_outputs));
  }
}

void multiply(Rows in, const Linear& linear, Rows out, bool accumulate, std::int32_t num_rows, ThreadPool& pool) {
  cpu::gemm({.a = in.data,
             .a_stride = in.len,
             .num_rows = num_rows,
             .weights = linear.weights.get(),
             .out = out.data,
             .out_stride = out.len,
             .bias = linear.bias.empty() ? nullptr : linear.bias.data(),
             .accumulate = accumulate},
            pool);
}

}  // namespace blendserve
