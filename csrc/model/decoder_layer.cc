#include "model/decoder_layer.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "base/error.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/kv_append.h"
#include "kernels/cpu/row_kernels.h"

namespace blendserve {
namespace {

constexpr std::int64_t kRowsPerTask = 16;

void check_size(const char* name, std::int64_t size, std::int64_t wanted, const char* meaning) {
  if (size == wanted) return;
  throw InvalidInput(std::string(name) + " has " + std::to_string(size) + " elements; it must have " +
                     std::to_string(wanted) + " (" + meaning + ")");
}

void check_norm(const char* name, const std::vector<float>& norm, std::int64_t wanted, bool is_optional) {
  if (is_optional && norm.empty()) return;
  check_size(name, static_cast<std::int64_t>(norm.size()), wanted, "one for each element of a row");
}

void check_shape(const LayerShape& shape) {
  if (shape.num_kv_heads < 1 || shape.num_heads % shape.num_kv_heads != 0) {
    throw InvalidInput("num_heads is " + std::to_string(shape.num_heads) + " and num_kv_heads " +
                       std::to_string(shape.num_kv_heads) + "; the first must be a multiple of the second");
  }
  if (shape.window < 0) {
    throw InvalidInput("window is " + std::to_string(shape.window) + "; it must be 0 (none) or more");
  }
  if (!(shape.attention_softcap >= 0.0F) || std::isinf(shape.attention_softcap)) {
    throw InvalidInput("attention_softcap is " + std::to_string(shape.attention_softcap) +
                       "; it must be 0 (none) or a finite number above it");
  }
}

void check_weights(const LayerShape& shape, const LayerWeights& weights) {
  check_norm("attention_norm", weights.attention_norm, shape.hidden_size, false);
  weights.qkv.check("qkv", shape.qkv_size(), shape.hidden_size);
  check_norm("q_norm", weights.q_norm, shape.head_dim, true);
  check_norm("k_norm", weights.k_norm, shape.head_dim, true);
  weights.attention_output.check("attention_output", shape.hidden_size, shape.q_size());
  check_norm("post_attention_norm", weights.post_attention_norm, shape.hidden_size, true);
  check_norm("mlp_norm", weights.mlp_norm, shape.hidden_size, false);
  weights.gate_up.check("gate_up", 2 * std::int64_t{shape.intermediate_size}, shape.hidden_size);
  weights.down.check("down", shape.hidden_size, shape.intermediate_size);
  check_norm("post_mlp_norm", weights.post_mlp_norm, shape.hidden_size, true);
}

template <typename Run>
void for_each_row(std::int32_t num_rows, ThreadPool& pool, const Run& run) {
  pool.parallel_for((num_rows + kRowsPerTask - 1) / kRowsPerTask, [&](std::int64_t task) {
    const std::int64_t end = std::min<std::int64_t>(num_rows, (task + 1) * kRowsPerTask);
    for (std::int64_t row = task * kRowsPerTask; row < end; ++row) run(row);
  });
}

void grow(std::vector<float>& buffer, std::int64_t size) {
  buffer.resize(std::max(buffer.size(), static_cast<std::size_t>(size)));
}

void normalize(Rows from, const std::vector<float>& weight, float eps, Rows to, std::int32_t num_rows,
               ThreadPool& pool) {
  const cpu::RowKernels& kernels = cpu::row_kernels();
  for_each_row(num_rows, pool,
               [&](std::int64_t row) { kernels.rms_norm(from[row], weight.data(), eps, from.len, to[row]); });
}

// hidden += linear(in), through a norm where the family has one; `scratch` is as wide as `hidden`.
void add_branch(Rows in, const Linear& linear, const std::vector<float>& norm, float eps, Rows scratch, Rows hidden,
                std::int32_t num_rows, ThreadPool& pool) {
  if (norm.empty()) {
    multiply(in, linear, hidden, true, num_rows, pool);
    return;
  }
  multiply(in, linear, scratch, false, num_rows, pool);
  const cpu::RowKernels& kernels = cpu::row_kernels();
  for_each_row(num_rows, pool, [&](std::int64_t row) {
    kernels.rms_norm(scratch[row], norm.data(), eps, scratch.len, scratch[row]);
    kernels.add(hidden[row], scratch[row], hidden.len);
  });
}

}  // namespace

DecoderLayer::DecoderLayer(const LayerShape& shape, LayerWeights weights, std::shared_ptr<RotaryTable> rotary)
    : shape_(shape), weights_(std::move(weights)), rotary_(std::move(rotary)) {
  check_shape(shape_);
  check_weights(shape_, weights_);
  check_size("frequencies", 2 * rotary_->half_dim(), shape_.head_dim, "half a head");
}

void DecoderLayer::forward(float* hidden, const LayerStep& step, const LayerKv& kv, LayerBuffers& buffers,
                           ThreadPool& pool) const {
  if (step.num_tokens == 0) return;
  attend(hidden, step, kv, buffers, pool);
  run_mlp(hidden, step.num_tokens, buffers, pool);
}

void DecoderLayer::attend(float* hidden_data, const LayerStep& step, const LayerKv& kv, LayerBuffers& buffers,
                          ThreadPool& pool) const {
  const std::int32_t num_tokens = step.num_tokens;
  rotary_->reserve(std::int64_t{*std::max_element(step.positions, step.positions + num_tokens)} + 1);
  grow(buffers.normed, std::int64_t{num_tokens} * shape_.hidden_size);
  grow(buffers.qkv, std::int64_t{num_tokens} * shape_.qkv_size());
  grow(buffers.attended, std::int64_t{num_tokens} * shape_.q_size());
  const Rows hidden{hidden_data, shape_.hidden_size};
  const Rows normed{buffers.normed.data(), shape_.hidden_size};
  const Rows qkv{buffers.qkv.data(), shape_.qkv_size()};
  const Rows attended{buffers.attended.data(), shape_.q_size()};

  normalize(hidden, weights_.attention_norm, shape_.rms_norm_eps, normed, num_tokens, pool);
  multiply(normed, weights_.qkv, qkv, false, num_tokens, pool);
  for_each_row(num_tokens, pool, [&](std::int64_t token) { place_heads(qkv[token], step.positions[token]); });
  cpu::kv_append({.k = qkv.data + shape_.q_size(),
                  .v = qkv.data + shape_.q_size() + shape_.kv_size(),
                  .slot_mapping = step.slot_mapping,
                  .kv = kv.data,
                  .k_stride = qkv.len,
                  .v_stride = qkv.len,
                  .num_tokens = num_tokens,
                  .layout = kv.layout,
                  .kv_dtype = kv.dtype},
                 pool);
  cpu::paged_attention({.q = qkv.data,
                        .kv = kv.data,
                        .out = attended.data,
                        .qo_indptr = step.qo_indptr,
                        .kv_lens = step.kv_lens,
                        .block_indptr = step.block_indptr,
                        .block_table = step.block_table,
                        .q_stride = qkv.len,
                        .num_tokens = num_tokens,
                        .num_seqs = step.num_seqs,
                        .num_heads = shape_.num_heads,
                        .window = shape_.window,
                        .scale = shape_.attention_scale,
                        .softcap = shape_.attention_softcap,
                        .layout = kv.layout,
                        .kv_dtype = kv.dtype},
                       pool);
  add_branch(attended, weights_.attention_output, weights_.post_attention_norm, shape_.rms_norm_eps, normed, hidden,
             num_tokens, pool);
}

void DecoderLayer::run_mlp(float* hidden_data, std::int32_t num_tokens, LayerBuffers& buffers, ThreadPool& pool) const {
  const std::int64_t intermediate_size = shape_.intermediate_size;
  grow(buffers.gate_up, num_tokens * 2 * intermediate_size);
  const Rows hidden{hidden_data, shape_.hidden_size};
  const Rows normed{buffers.normed.data(), shape_.hidden_size};
  const Rows gate_up{buffers.gate_up.data(), 2 * intermediate_size};

  normalize(hidden, weights_.mlp_norm, shape_.rms_norm_eps, normed, num_tokens, pool);
  multiply(normed, weights_.gate_up, gate_up, false, num_tokens, pool);
  const cpu::RowKernels& kernels = cpu::row_kernels();
  const auto gate = shape_.activation == Activation::kSilu ? kernels.silu_mul : kernels.gelu_tanh_mul;
  for_each_row(num_tokens, pool, [&](std::int64_t token) {
    gate(gate_up[token], gate_up[token] + intermediate_size, intermediate_size);
  });
  add_branch(gate_up, weights_.down, weights_.post_mlp_norm, shape_.rms_norm_eps, normed, hidden, num_tokens, pool);
}

// Norms and rotates the Q and K heads of one token.
void DecoderLayer::place_heads(float* qkv, std::int32_t position) const {
  const cpu::RowKernels& kernels = cpu::row_kernels();
  for (std::int32_t head = 0; head < shape_.num_heads + shape_.num_kv_heads; ++head) {
    float* values = qkv + std::int64_t{head} * shape_.head_dim;
    const std::vector<float>& norm = head < shape_.num_heads ? weights_.q_norm : weights_.k_norm;
    if (!norm.empty()) kernels.rms_norm(values, norm.data(), shape_.rms_norm_eps, shape_.head_dim, values);
    kernels.rotate(values, rotary_->cos(position), rotary_->sin(position), rotary_->half_dim());
  }
}

}  // namespace blendserve
