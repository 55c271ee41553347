#pragma once

#include <cstddef>
#include <cstdint>

#include "base/aligned_array.h"
#include "base/thread_pool.h"
#include "kernels/cpu/panel_layout.h"

namespace blendserve::cpu {

// The weights [num_outputs, num_inputs] of a linear layer, packed once for gemm(): panels of kPanelWidth outputs, each
// [num_inputs, kPanelWidth], one after the other; outputs past the last one are 0. Move-only.
class PackedMatrix {
 public:
  // An output whose weights were not packed yet has unspecified weights. Throws InvalidInput unless both sizes are 1 or
  // more.
  PackedMatrix(std::int64_t num_outputs, std::int64_t num_inputs, WeightDtype dtype);

  // The whole matrix at once.
  static PackedMatrix pack(const float* weights, std::int64_t num_outputs, std::int64_t num_inputs,
                           std::int64_t row_stride, WeightDtype stored, ThreadPool& pool);

  // Packs `weights` [num_rows, num_inputs], rows row_stride elements apart, as the outputs from first_output on:
  // matrices that read the same inputs may be stacked so. The second form reads the bits of bfloat16. Throws
  // InvalidInput when the rows leave the matrix, or for int8 when a weight is not finite.
  void pack_rows(std::int64_t first_output, const float* weights, std::int64_t num_rows, std::int64_t row_stride,
                 ThreadPool& pool);
  void pack_rows(std::int64_t first_output, const std::uint16_t* weights, std::int64_t num_rows,
                 std::int64_t row_stride, ThreadPool& pool);

  // The weights [num_inputs] of one output as they are stored, in float32: a tied embedding's row.
  void unpack_row(std::int64_t output, float* out) const;

  std::int64_t num_outputs() const { return num_outputs_; }
  std::int64_t num_inputs() const { return num_inputs_; }
  WeightDtype dtype() const { return dtype_; }
  std::size_t size_bytes() const { return panels_.size_bytes() + scales_.size_bytes(); }

  std::int64_t num_panels() const { return (num_outputs_ + kPanelWidth - 1) / kPanelWidth; }
  const std::byte* panel(std::int64_t index) const { return panels_.data() + index * panel_bytes(); }
  const float* scales() const { return scales_.data(); }  // [num_outputs] of int8, else null

 private:
  template <class Source>
  void pack_any(std::int64_t first_output, const Source* weights, std::int64_t num_rows, std::int64_t row_stride,
                ThreadPool& pool);
  template <class Source>
  void pack_output(std::int64_t output, const Source* weights);
  std::int64_t panel_bytes() const;

  std::int64_t num_outputs_;
  std::int64_t num_inputs_;
  WeightDtype dtype_;
  AlignedArray<std::byte> panels_;
  AlignedArray<float> scales_;
};

}  // namespace blendserve::cpu
