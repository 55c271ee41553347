#include "kernels/cpu/packed_matrix.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "base/error.h"
#include "kernels/cpu/bfloat16.h"

namespace blendserve::cpu {

namespace {

constexpr float kMaxInt8 = 127.0F;

float widened(float weight) { return weight; }
float widened(std::uint16_t weight) { return bfloat16_to_float(weight); }

// The scale of an int8 output; 0 when all its weights are.
template <class Source>
float int8_scale(const Source* weights, std::int64_t num_inputs, std::int64_t output) {
  float largest = 0.0F;
  for (std::int64_t k = 0; k < num_inputs; ++k) {
    const float weight = widened(weights[k]);
    if (!std::isfinite(weight)) {
      throw InvalidInput("the weight of output " + std::to_string(output) + " and input " + std::to_string(k) + " is " +
                         std::to_string(weight) + "; int8 holds finite weights only: store it as bfloat16 or float32");
    }
    largest = std::max(largest, std::abs(weight));
  }
  return largest / kMaxInt8;
}

// One output's weights into its column of a panel.
template <class Source, class Stored, class Convert>
void fill_column(const Source* weights, std::int64_t num_inputs, std::byte* panel, std::int64_t column,
                 const Convert& convert) {
  auto* to = reinterpret_cast<Stored*>(panel) + column;
  for (std::int64_t k = 0; k < num_inputs; ++k) {
    to[k * kPanelWidth] = convert(widened(weights[k]));
  }
}

template <class Stored, class Convert>
void read_column(const std::byte* panel, std::int64_t num_inputs, std::int64_t column, float* out,
                 const Convert& convert) {
  const auto* from = reinterpret_cast<const Stored*>(panel) + column;
  for (std::int64_t k = 0; k < num_inputs; ++k) out[k] = convert(from[k * kPanelWidth]);
}

std::int8_t quantized(float weight, float scale) {
  const float steps = scale == 0.0F ? 0.0F : std::nearbyint(weight / scale);
  return static_cast<std::int8_t>(std::clamp(steps, -kMaxInt8, kMaxInt8));
}

}  // namespace

PackedMatrix::PackedMatrix(std::int64_t num_outputs, std::int64_t num_inputs, WeightDtype dtype)
    : num_outputs_(num_outputs), num_inputs_(num_inputs), dtype_(dtype) {
  if (num_outputs < 1 || num_inputs < 1) {
    throw InvalidInput("the matrix has " + std::to_string(num_outputs) + " outputs and " + std::to_string(num_inputs) +
                       " inputs; both must be 1 or more");
  }
  panels_ = AlignedArray<std::byte>(static_cast<std::size_t>(num_panels() * panel_bytes()));
  if (dtype == WeightDtype::kInt8) {
    scales_ = AlignedArray<float>(static_cast<std::size_t>(num_outputs));
  }
  std::memset(panels_.data() + (num_panels() - 1) * panel_bytes(), 0, static_cast<std::size_t>(panel_bytes()));
}

PackedMatrix PackedMatrix::pack(const float* weights, std::int64_t num_outputs, std::int64_t num_inputs,
                                std::int64_t row_stride, WeightDtype stored, ThreadPool& pool) {
  PackedMatrix matrix(num_outputs, num_inputs, stored);
  matrix.pack_rows(0, weights, num_outputs, row_stride, pool);
  return matrix;
}

void PackedMatrix::pack_rows(std::int64_t first_output, const float* weights, std::int64_t num_rows,
                             std::int64_t row_stride, ThreadPool& pool) {
  pack_any(first_output, weights, num_rows, row_stride, pool);
}

void PackedMatrix::pack_rows(std::int64_t first_output, const std::uint16_t* weights, std::int64_t num_rows,
                             std::int64_t row_stride, ThreadPool& pool) {
  pack_any(first_output, weights, num_rows, row_stride, pool);
}

template <class Source>
void PackedMatrix::pack_any(std::int64_t first_output, const Source* weights, std::int64_t num_rows,
                            std::int64_t row_stride, ThreadPool& pool) {
  if (first_output < 0 || num_rows < 0 || first_output + num_rows > num_outputs_) {
    throw InvalidInput("outputs " + std::to_string(first_output) + " to " + std::to_string(first_output + num_rows) +
                       " do not lie in a matrix of " + std::to_string(num_outputs_) + " outputs");
  }
  // A task is a panel: the outputs of one share cache lines.
  const std::int64_t first_panel = first_output / kPanelWidth;
  const std::int64_t end_output = first_output + num_rows;
  pool.parallel_for((end_output + kPanelWidth - 1) / kPanelWidth - first_panel, [&](std::int64_t task) {
    const std::int64_t begin = std::max(first_output, (first_panel + task) * kPanelWidth);
    const std::int64_t end = std::min(end_output, (first_panel + task + 1) * kPanelWidth);
    for (std::int64_t output = begin; output < end; ++output) {
      pack_output(output, weights + (output - first_output) * row_stride);
    }
  });
}

template <class Source>
void PackedMatrix::pack_output(std::int64_t output, const Source* weights) {
  std::byte* to = panels_.data() + output / kPanelWidth * panel_bytes();
  const std::int64_t column = output % kPanelWidth;
  switch (dtype_) {
    case WeightDtype::kFloat32:
      fill_column<Source, float>(weights, num_inputs_, to, column, [](float weight) { return weight; });
      break;
    case WeightDtype::kBFloat16:
      fill_column<Source, std::uint16_t>(weights, num_inputs_, to, column, bfloat16_from_float);
      break;
    case WeightDtype::kInt8: {
      const float scale = int8_scale(weights, num_inputs_, output);
      scales_.data()[output] = scale;
      fill_column<Source, std::int8_t>(weights, num_inputs_, to, column,
                                       [scale](float weight) { return quantized(weight, scale); });
      break;
    }
  }
}

void PackedMatrix::unpack_row(std::int64_t output, float* out) const {
  const std::byte* from = panel(output / kPanelWidth);
  const std::int64_t column = output % kPanelWidth;
  switch (dtype_) {
    case WeightDtype::kFloat32:
      read_column<float>(from, num_inputs_, column, out, [](float weight) { return weight; });
      break;
    case WeightDtype::kBFloat16:
      read_column<std::uint16_t>(from, num_inputs_, column, out, bfloat16_to_float);
      break;
    case WeightDtype::kInt8:
      read_column<std::int8_t>(from, num_inputs_, column, out, [scale = scales_.data()[output]](std::int8_t steps) {
        return scale * static_cast<float>(steps);
      });
      break;
  }
}

std::int64_t PackedMatrix::panel_bytes() const { return num_inputs_ * kPanelWidth * element_bytes(dtype_); }

}  // namespace blendserve::cpu
