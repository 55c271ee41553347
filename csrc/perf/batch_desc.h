#pragma once

#include <cstdint>

namespace blendserve {

// What the time of a step depends on, as sums: adding to a batch costs a few additions, and so does growing its decodes
// by a token (decode_kv_tokens += num_decodes).
struct BatchDesc {
  std::int64_t num_prefill_tokens = 0;
  std::int64_t prefill_squares = 0;   // Σ (ctx + x)² − ctx² over the chunks, tokens²
  std::int64_t num_decodes = 0;       // each is one token
  std::int64_t decode_kv_tokens = 0;  // Σ of their lengths, the token being decoded included
  std::int64_t num_logit_rows = 0;    // which pass the LM head, the decodes among them

  std::int64_t num_tokens() const { return num_prefill_tokens + num_decodes; }

  // x tokens of a prompt after its ctx first ones.
  void add_chunk(std::int64_t ctx, std::int64_t x) {
    num_prefill_tokens += x;
    prefill_squares += x * (2 * ctx + x);
  }
  void add_decode(std::int64_t len) {
    num_decodes += 1;
    decode_kv_tokens += len;
    num_logit_rows += 1;
  }
  // Rows of the chunks that pass the LM head: ends of prompts, and where a prompt is scored.
  void add_logit_rows(std::int64_t num_rows) { num_logit_rows += num_rows; }

  bool operator==(const BatchDesc&) const = default;
};

}  // namespace blendserve
