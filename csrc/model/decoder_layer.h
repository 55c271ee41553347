#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/ids.h"
#include "base/kv_layout.h"
#include "base/thread_pool.h"
#include "model/linear.h"
#include "model/rotary_table.h"

namespace blendserve {

enum class Activation : std::uint8_t { kSilu, kGeluTanh };

struct LayerShape {
  std::int32_t hidden_size = 0;
  std::int32_t intermediate_size = 0;
  std::int32_t num_heads = 0;
  std::int32_t num_kv_heads = 0;
  std::int32_t head_dim = 0;
  float rms_norm_eps = 0.0F;
  Activation activation = Activation::kSilu;
  float attention_scale = 1.0F;
  float attention_softcap = 0.0F;  // 0: none
  std::int32_t window = 0;         // 0: all positions

  std::int32_t q_size() const { return num_heads * head_dim; }
  std::int32_t kv_size() const { return num_kv_heads * head_dim; }
  std::int32_t qkv_size() const { return q_size() + 2 * kv_size(); }
};

// Norm weights multiply as they are: an offset of the family is in them. Those that a family lacks are empty.
struct LayerWeights {
  std::vector<float> attention_norm;       // [hidden_size]
  Linear qkv;                              // [qkv_size, hidden_size]: all of Q, then K, then V
  std::vector<float> q_norm;               // [head_dim], before the rotation
  std::vector<float> k_norm;               // [head_dim]
  Linear attention_output;                 // [hidden_size, q_size]
  std::vector<float> post_attention_norm;  // [hidden_size], of what attention adds
  std::vector<float> mlp_norm;             // [hidden_size]
  Linear gate_up;                          // [2 · intermediate_size, hidden_size]: gate, then up
  Linear down;                             // [hidden_size, intermediate_size]
  std::vector<float> post_mlp_norm;        // [hidden_size], of what the MLP adds
};

// What the layers of one step share: the arrays of a StepPlan for S sequences with T tokens in all.
struct LayerStep {
  const std::int32_t* positions = nullptr;     // [T]
  const std::int64_t* slot_mapping = nullptr;  // [T]
  const std::int32_t* qo_indptr = nullptr;     // [S + 1]
  const std::int32_t* kv_lens = nullptr;       // [S]
  const std::int32_t* block_indptr = nullptr;  // [S + 1]
  const BlockId* block_table = nullptr;        // [block_indptr[S]]
  std::int32_t num_tokens = 0;                 // T
  std::int32_t num_seqs = 0;                   // S
};

// The paged cache of one layer.
struct LayerKv {
  void* data = nullptr;
  KvLayout layout;
  KvDtype dtype = KvDtype::kFloat32;
};

// Memory that layers use one after another; it grows to what the widest step needs.
struct LayerBuffers {
  std::vector<float> normed;    // [T, hidden_size]
  std::vector<float> qkv;       // [T, qkv_size]
  std::vector<float> attended;  // [T, q_size]
  std::vector<float> gate_up;   // [T, 2 · intermediate_size]
};

// One layer of a pre-norm decoder on the CPU, in float32: attention with rotary positions, then a gated MLP, each added
// to the hidden states. A row of the result is a function of its token's inputs and of the K/V it attends to alone, bit
// for bit, whatever the batch, the chunks and the number of threads.
class DecoderLayer {
 public:
  // Throws InvalidInput that names what in the shape cannot be, or the weight whose size does not fit it.
  DecoderLayer(const LayerShape& shape, LayerWeights weights, std::shared_ptr<RotaryTable> rotary);

  const LayerShape& shape() const { return shape_; }

  // Advances hidden [T, hidden_size] in place and appends the step's K and V to `kv`. Throws InvalidInput,
  // `hidden` untouched, when step and cache do not fit together.
  void forward(float* hidden, const LayerStep& step, const LayerKv& kv, LayerBuffers& buffers, ThreadPool& pool) const;

 private:
  void attend(float* hidden, const LayerStep& step, const LayerKv& kv, LayerBuffers& buffers, ThreadPool& pool) const;
  void run_mlp(float* hidden, std::int32_t num_tokens, LayerBuffers& buffers, ThreadPool& pool) const;
  void place_heads(float* qkv, std::int32_t position) const;

  LayerShape shape_;
  LayerWeights weights_;
  std::shared_ptr<RotaryTable> rotary_;
};

}  // namespace blendserve
