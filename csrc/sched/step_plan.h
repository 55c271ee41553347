#pragma once

#include <cstdint>
#include <vector>

#include "base/ids.h"

namespace blendserve {

// One step for an executor (CPU, GPU or simulator), as plain arrays. It has S sequences with T tokens in all, decodes
// first. Token t of sequence s, qo_indptr[s] <= t < qo_indptr[s + 1], stands at absolute position
// positions[t] and attends to every earlier position of its sequence; its K and V go to flat slot slot_mapping[t] =
// block * block_size + offset. All K/V of a layer are appended before that layer's attention: a sequence may read
// blocks that another sequence of the same step writes.
//
// Where a request asks for log-probs of its prompt, row t's logits also score the prompt token behind it. That score
// belongs to the slot of row t, as K and V do: a request that reads cached blocks finds there the scores it does not
// compute, with as many most likely tokens as it asked for.
//
// A step that was planned while the one before it was in flight has tokens nobody knows yet: row pending_rows[i] gets
// sample pending_samples[i] of that step. They are filled in when that step is updated; until then they are
// kPendingToken.
struct StepPlan {
  std::int64_t step = 0;                      // counts from 0
  std::vector<RequestId> request_ids;         // [S]
  std::vector<std::int32_t> qo_indptr{0};     // [S + 1]
  std::vector<Token> token_ids;               // [T]
  std::vector<std::int32_t> positions;        // [T]
  std::vector<std::int64_t> slot_mapping;     // [T]
  std::vector<std::int32_t> kv_lens;          // [S] positions in the KV cache once this step's are appended
  std::vector<std::int32_t> block_indptr{0};  // [S + 1]
  std::vector<BlockId> block_table;           // [block_indptr[S]] blocks of each sequence, in order of position
  std::vector<std::int32_t> logit_rows;       // [M] rows of [T] whose logits are needed: the sequences that get a token
  std::vector<RequestId> sample_ids;          // [M] their requests
  std::vector<std::int32_t> sample_positions;   // [M] index of the output token each will get, counted from 0
  std::vector<std::int32_t> prompt_logit_rows;  // [P] rows of [T] whose logits score the prompt token behind them
  std::vector<Token> prompt_next_tokens;        // [P] that token
  std::vector<std::int32_t> pending_rows;       // [Q] rows of [T]
  std::vector<std::int32_t> pending_samples;    // [Q] indices into the samples of the step before

  static constexpr Token kPendingToken = -1;

  // Makes room for `count` sequences that decode a token each, and holds nothing else: whatever the arrays of one entry
  // a sequence, token or sample held is still to be written over. Keeps the memory, and touches none of it.
  void start_with_decodes(std::size_t count) {
    request_ids.resize(count);
    qo_indptr.resize(count + 1);
    token_ids.resize(count);
    positions.resize(count);
    slot_mapping.resize(count);
    kv_lens.resize(count);
    block_indptr.resize(count + 1);
    logit_rows.resize(count);
    sample_ids.resize(count);
    sample_positions.resize(count);
    prompt_logit_rows.clear();
    prompt_next_tokens.clear();
    pending_rows.clear();
    pending_samples.clear();
  }
};

}  // namespace blendserve
