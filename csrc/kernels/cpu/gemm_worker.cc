#include "kernels/cpu/gemm_worker.h"

#include <algorithm>

#include "kernels/cpu/isa.h"

namespace blendserve::cpu {

namespace {

void grow(AlignedArray<float>& array, std::int64_t size) {
  if (array.size() < static_cast<std::size_t>(size)) {
    array = AlignedArray<float>(static_cast<std::size_t>(size));
  }
}

void multiply_panel(const PanelBlock& block, PanelSums sums) {
#ifdef __x86_64__
  if (active_isa() >= Isa::kAvx512) {
    multiply_panel_avx512(block, sums);
    return;
  }
  if (active_isa() >= Isa::kAvx2) {
    multiply_panel_avx2(block, sums);
    return;
  }
#endif
  multiply_panel_scalar(block, sums);
}

}  // namespace

GemmWorker& GemmWorker::local() {
  thread_local GemmWorker worker;
  return worker;
}

void GemmWorker::load_rows(const float* a, std::int64_t a_stride, std::int32_t num_rows, std::int64_t num_inputs) {
  num_rows_ = num_rows;
  grow(a_, (num_inputs + kBlockLen - 1) / kBlockLen * num_rows * kBlockStride);
  grow(sums_, num_rows * kPanelWidth);
  grow(scratch_, kBlockLen * kPanelWidth);
  float* to = a_.data();
  for (std::int64_t k = 0; k < num_inputs; k += kBlockLen) {
    const std::int64_t block_len = std::min<std::int64_t>(kBlockLen, num_inputs - k);
    for (std::int32_t row = 0; row < num_rows; ++row) {
      std::copy_n(a + row * a_stride + k, block_len, to);
      to += kBlockStride;
    }
  }
}

void GemmWorker::multiply(const PackedMatrix& weights, std::int64_t panel, PanelSums sums) {
  const std::int64_t input_bytes = kPanelWidth * element_bytes(weights.dtype());
  for (std::int64_t k = 0; k < weights.num_inputs(); k += kBlockLen) {
    const PanelBlock block{
        .a = a_.data() + k / kBlockLen * num_rows_ * kBlockStride,
        .weights = weights.panel(panel) + k * input_bytes,
        .scratch = scratch_.data(),
        .num_rows = num_rows_,
        .block_len = static_cast<std::int32_t>(std::min<std::int64_t>(kBlockLen, weights.num_inputs() - k)),
        .dtype = weights.dtype(),
        .is_first = k == 0};
    multiply_panel(block, sums);
  }
}

}  // namespace blendserve::cpu
