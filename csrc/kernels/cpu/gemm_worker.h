#pragma once

#include <cstdint>

#include "base/aligned_array.h"
#include "kernels/cpu/gemm_panel.h"
#include "kernels/cpu/packed_matrix.h"

namespace blendserve::cpu {

// What one thread needs to multiply rows by panels, in memory that is kept from call to call.
class GemmWorker {
 public:
  // The worker of the calling thread.
  static GemmWorker& local();

  // Copies `num_rows` rows of `num_inputs` floats, a_stride apart, to where multiply() reads them.
  void load_rows(const float* a, std::int64_t a_stride, std::int32_t num_rows, std::int64_t num_inputs);

  // sums = the loaded rows times one panel, before scale and bias.
  void multiply(const PackedMatrix& weights, std::int64_t panel, PanelSums sums);

  // Room for the sums of the loaded rows.
  PanelSums sums() { return {sums_.data(), kPanelWidth}; }

 private:
  AlignedArray<float> a_;     // [blocks of inputs, num_rows, kBlockStride]
  AlignedArray<float> sums_;  // [num_rows, kPanelWidth]
  AlignedArray<float> scratch_;
  std::int32_t num_rows_ = 0;
};

}  // namespace blendserve::cpu
