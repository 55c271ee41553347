#pragma once

#include <cstdint>

#include "base/kv_layout.h"
#include "base/thread_pool.h"

namespace blendserve::cpu {

// S sequences with T query tokens in all. Sequence s has qo_len = qo_indptr[s + 1] - qo_indptr[s] of them, the last of
// its kv_lens[s] positions: its token t, at position p = kv_lens[s] - qo_len + t, attends to the positions up to p, or
// with a window to max(0, p - window + 1) to p. Query head h reads KV head h / (num_heads / num_kv_heads).
struct PagedAttentionParams {
  const float* q = nullptr;                    // [T, num_heads, head_dim], tokens q_stride elements apart
  const void* kv = nullptr;                    // one layer, as `layout` says, of kv_dtype
  float* out = nullptr;                        // [T, num_heads, head_dim], dense
  const std::int32_t* qo_indptr = nullptr;     // [S + 1] from 0 to T
  const std::int32_t* kv_lens = nullptr;       // [S] >= qo_len
  const std::int32_t* block_indptr = nullptr;  // [S + 1] from 0
  const BlockId* block_table = nullptr;        // [block_indptr[S]] blocks of each sequence, in order of position
  std::int64_t q_stride = 0;
  std::int32_t num_tokens = 0;  // T
  std::int32_t num_seqs = 0;    // S
  std::int32_t num_heads = 0;   // a multiple of layout.num_kv_heads
  std::int32_t window = 0;      // 0: none
  float scale = 1.0F;           // of the scores, before softmax
  float softcap = 0.0F;         // 0: none; else scaled scores become softcap · tanh(score / softcap)
  KvLayout layout;
  KvDtype kv_dtype = KvDtype::kFloat32;
};

// out = softmax(scale · q · K^T) · V, causal, for prefill chunks and decodes alike. Blocks wholly left of a window are
// not read.
//
// A row of `out` is a function of its row of `q`, the K/V it attends to and active_isa() alone, bit for bit: the chunks
// a prompt came in, the batch, the block size and the number of threads never show. To that end a row's positions are
// split at absolute multiples of kSplitLen (attention_split.h), each split is reduced in one fixed order, and the
// splits are merged from left to right.
//
// Throws InvalidInput, before anything is written, when the index arrays do not fit together or leave the cache.
void paged_attention(const PagedAttentionParams& params, ThreadPool& pool);

}  // namespace blendserve::cpu
