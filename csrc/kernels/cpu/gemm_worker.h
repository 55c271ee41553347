#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/aligned_array.h"
#include "kernels/cpu/gemm_panel.h"
#include "kernels/cpu/memory_tasks.h"
#include "kernels/cpu/packed_matrix.h"

namespace blendserve::cpu {

// What one thread needs to multiply rows by panels, in memory that is kept from call to call.
class GemmWorker {
 public:
  // The worker of the calling thread.
  static GemmWorker& local();

  // Copies `num_rows` rows of `num_inputs` floats, a_stride apart, to where multiply() reads them.
  void load_rows(const float* a, std::int64_t a_stride, std::int32_t num_rows, std::int64_t num_inputs);

  // sums = the loaded rows times one panel, before scale and bias; meanwhile tasks `beside`, if any, at a place of
  // theirs.
  void multiply(const PackedMatrix& weights, std::int64_t panel, PanelSums sums, MemoryTasks* beside,
                std::int64_t place);

  // Room for the sums of the loaded rows.
  PanelSums sums() { return {sums_.data(), kPanelWidth}; }

 private:
  void list_next_block(const std::byte* weights, std::int64_t num_bytes);

  AlignedArray<float> a_;     // [blocks of inputs, num_rows, kBlockStride]
  AlignedArray<float> sums_;  // [num_rows, kPanelWidth]
  AlignedArray<float> scratch_;
  std::vector<const std::byte*> pieces_;  // to be fetched while a block is multiplied beside tasks
  std::int32_t num_rows_ = 0;
};

}  // namespace blendserve::cpu
