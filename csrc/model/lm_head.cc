#include "model/lm_head.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "base/error.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/row_kernels.h"

namespace blendserve {

LmHead::LmHead(std::vector<float> norm, Linear linear, float rms_norm_eps, float softcap)
    : norm_(std::move(norm)), linear_(std::move(linear)), rms_norm_eps_(rms_norm_eps), softcap_(softcap) {
  linear_.check("linear", vocab_size(), static_cast<std::int64_t>(norm_.size()));
}

void LmHead::embed(std::span<const std::int32_t> token_ids, float* out) const {
  for (const std::int32_t id : token_ids) {
    if (id < 0 || id >= vocab_size()) {
      throw InvalidInput("token id " + std::to_string(id) + " is not in a vocabulary of " +
                         std::to_string(vocab_size()));
    }
    linear_.weights->unpack_row(id, out);
    out += hidden_size();
  }
}

void LmHead::logits(const float* hidden, std::span<const std::int32_t> rows, float* out, ThreadPool& pool) const {
  std::vector<float> inputs = normed(hidden, rows);
  const Rows to{out, vocab_size()};
  multiply({inputs.data(), hidden_size()}, linear_, to, false, static_cast<std::int32_t>(rows.size()), pool);
  if (softcap_ == 0.0F) return;
  const cpu::RowKernels& kernels = cpu::row_kernels();
  pool.parallel_for(static_cast<std::int64_t>(rows.size()),
                    [&](std::int64_t row) { kernels.softcap(to[row], softcap_, to.len); });
}

void LmHead::most_likely(const float* hidden, std::span<const std::int32_t> rows, std::int32_t* best,
                         ThreadPool& pool) const {
  if (softcap_ != 0.0F) {
    most_likely_of_capped(hidden, rows, best, pool);
    return;
  }
  const std::vector<float> inputs = normed(hidden, rows);
  cpu::gemm_argmax(inputs.data(), hidden_size(), static_cast<std::int32_t>(rows.size()), *linear_.weights,
                   linear_.bias.empty() ? nullptr : linear_.bias.data(), best, pool);
}

// Large logits may become equal under the cap: the choice must be that of who looks at logits().
void LmHead::most_likely_of_capped(const float* hidden, std::span<const std::int32_t> rows, std::int32_t* best,
                                   ThreadPool& pool) const {
  constexpr std::size_t kRowsAtOnce = 64;
  std::vector<float> values(std::min(kRowsAtOnce, rows.size()) * static_cast<std::size_t>(vocab_size()));
  for (std::size_t begin = 0; begin < rows.size(); begin += kRowsAtOnce) {
    const auto part = rows.subspan(begin, std::min(kRowsAtOnce, rows.size() - begin));
    logits(hidden, part, values.data(), pool);
    const auto is_smaller = [](float x, float y) { return cpu::is_larger(y, x); };
    for (std::size_t i = 0; i < part.size(); ++i) {
      const float* row = values.data() + i * static_cast<std::size_t>(vocab_size());
      best[begin + i] = static_cast<std::int32_t>(std::max_element(row, row + vocab_size(), is_smaller) - row);
    }
  }
}

std::vector<float> LmHead::normed(const float* hidden, std::span<const std::int32_t> rows) const {
  std::vector<float> inputs(rows.size() * norm_.size());
  const cpu::RowKernels& kernels = cpu::row_kernels();
  float* to = inputs.data();
  for (const std::int32_t row : rows) {
    kernels.rms_norm(hidden + row * hidden_size(), norm_.data(), rms_norm_eps_, hidden_size(), to);
    to += hidden_size();
  }
  return inputs;
}

}  // namespace blendserve
