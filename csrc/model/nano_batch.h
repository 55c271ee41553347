#pragma once

#include <cstdint>
#include <vector>

#include "base/thread_pool.h"
#include "model/decoder_layer.h"

namespace blendserve {

// One layer and its cache.
struct CachedLayer {
  const DecoderLayer* layer = nullptr;
  LayerKv kv;
};

// Some neighbouring sequences of a step and their hidden states, which go through the layers by themselves.
class NanoBatch {
 public:
  // Sequences [begin_seq, end_seq) of a step whose states are `hidden`; all that it is given outlives it.
  NanoBatch(const LayerStep& step, std::int32_t begin_seq, std::int32_t end_seq, float* hidden,
            std::int64_t hidden_size, LayerBuffers& buffers);
  NanoBatch(const NanoBatch&) = delete;
  NanoBatch& operator=(const NanoBatch&) = delete;

  std::int32_t num_tokens() const { return step_.num_tokens; }

  // The parts of DecoderLayer::forward().
  void begin(const CachedLayer& at, const Threads& threads) const;
  cpu::PagedAttentionParams attention(const CachedLayer& at) const;
  void end(const CachedLayer& at, const Threads& threads) const;

 private:
  std::vector<std::int32_t> qo_indptr_;
  std::vector<std::int32_t> block_indptr_;
  LayerStep step_;
  float* hidden_;
  LayerBuffers& buffers_;
};

}  // namespace blendserve
