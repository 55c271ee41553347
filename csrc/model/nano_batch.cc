#include "model/nano_batch.h"

namespace blendserve {

NanoBatch::NanoBatch(const LayerStep& step, std::int32_t begin_seq, std::int32_t end_seq, float* hidden,
                     std::int64_t hidden_size, LayerBuffers& buffers)
    : buffers_(buffers) {
  const std::int32_t first_token = step.qo_indptr[begin_seq];
  const std::int32_t first_block = step.block_indptr[begin_seq];
  for (std::int32_t seq = begin_seq; seq <= end_seq; ++seq) {
    qo_indptr_.push_back(step.qo_indptr[seq] - first_token);
    block_indptr_.push_back(step.block_indptr[seq] - first_block);
  }
  step_ = {.positions = step.positions + first_token,
           .slot_mapping = step.slot_mapping + first_token,
           .qo_indptr = qo_indptr_.data(),
           .kv_lens = step.kv_lens + begin_seq,
           .block_indptr = block_indptr_.data(),
           .block_table = step.block_table + first_block,
           .num_tokens = qo_indptr_.back(),
           .num_seqs = end_seq - begin_seq};
  hidden_ = hidden + first_token * hidden_size;
}

void NanoBatch::begin(const CachedLayer& at, const Threads& threads) const {
  at.layer->begin(hidden_, step_, at.kv, buffers_, threads);
}

cpu::PagedAttentionParams NanoBatch::attention(const CachedLayer& at) const {
  return at.layer->attention(step_, at.kv, buffers_);
}

void NanoBatch::end(const CachedLayer& at, const Threads& threads) const {
  at.layer->end(hidden_, step_.num_tokens, buffers_, threads);
}

}  // namespace blendserve
