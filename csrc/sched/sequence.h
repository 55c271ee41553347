#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kv/block_table.h"
#include "request/request.h"
#include "request/token_view.h"

namespace blendserve {

enum class RequestStatus : std::uint8_t {
  kWaiting,   // with the policy
  kTaken,     // waiting for a prefix that another request is computing
  kRunning,   // holds KV blocks
  kFinished,  // its output stays until forgotten
  kForgotten,
};

enum class FinishReason : std::uint8_t {
  kNone,
  kStopToken,  // the last output token is in the request's stop set
  kLength,     // max_new_tokens reached, which may be none
  kStopped,    // stop() was called
};

// A running request: all that every step reads and writes of it, beside its output and its blocks. Positions, as
// half-open intervals of the sequence prompt + output:
//
//   [0, num_computed)              K and V are in the cache
//   [num_computed, num_scheduled)  computed by the steps in flight; empty between steps
//   [num_scheduled, target_len)    to compute
struct alignas(64) Sequence {
  BlockTable blocks;  // none once it has ended
  std::int32_t num_computed = 0;
  std::int32_t num_scheduled = 0;
  std::int32_t target_len = 0;   // where it ends once the steps in flight have run, at most max_len - 1 if sampled
  std::int32_t prompt_len = 0;   // >= 1
  std::int32_t max_len = 0;      // of prompt and output
  std::int32_t stop_set = 0;     // as in LengthLimits
  std::int32_t num_pending = 0;  // tokens that steps in flight sample
  std::int32_t last_sample = 0;  // the newest of them, as index into its step's samples
  Token last_token = 0;          // of those that are known
  bool is_decoding = false;      // it got a token since it was admitted

  RequestId id() const { return blocks.owner(); }
  bool is_running() const { return blocks.size() > 0; }
  bool is_sampled() const { return max_len > prompt_len; }
  std::int32_t num_left() const { return target_len - num_scheduled; }

  // The step being planned samples its next token, as its sample number `sample`.
  void expect_token(std::int32_t sample) {
    last_sample = sample;
    ++num_pending;
    target_len = std::min(target_len + 1, max_len - 1);
  }
};

// One row of the scheduler's request table. What every step reads and writes comes first, in one cache line.
struct alignas(32) RequestRow {
  Sequence* sequence = nullptr;  // while running
  std::vector<Token> output;     // kept across preemptions
  Request request;
  RequestStatus status = RequestStatus::kWaiting;
  FinishReason finish_reason = FinishReason::kNone;
  std::int32_t num_cached = -1;   // prompt tokens found in the cache at first admission; -1 before
  std::int32_t max_computed = 0;  // the most tokens computed when it was preempted: what that threw away

  TokenView tokens() const { return {request.prompt, output, request.prompt_logprobs}; }
  std::int32_t num_tokens() const { return tokens().size(); }
  Token last_token() const { return output.empty() ? request.prompt.back() : output.back(); }
};

}  // namespace blendserve
