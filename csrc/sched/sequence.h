#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
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

// A running request. Positions, as half-open intervals of the sequence prompt + output:
//
//   [0, num_computed)              K and V are in the cache
//   [num_computed, num_scheduled)  computed by the steps in flight; empty between steps
//   [num_scheduled, target_len)    to compute
struct Sequence {
  BlockTable blocks;
  std::int32_t num_computed = 0;
  std::int32_t num_scheduled = 0;
  bool is_decoding = false;  // it got a token since it was admitted
};

// One row of the scheduler's request table.
struct RequestRow {
  Request request;
  RequestStatus status = RequestStatus::kWaiting;
  FinishReason finish_reason = FinishReason::kNone;
  std::int32_t num_cached = -1;        // prompt tokens found in the cache at first admission; -1 before
  std::int32_t max_computed = 0;       // the most tokens ever computed: what a preemption throws away
  std::int32_t num_pending = 0;        // tokens that steps in flight sample
  std::int32_t last_sample = 0;        // the newest of them, as index into its step's samples
  std::vector<Token> output;           // kept across preemptions
  std::unique_ptr<Sequence> sequence;  // while running

  TokenView tokens() const { return {request.prompt, output, request.prompt_logprobs}; }
  std::int32_t num_tokens() const { return tokens().size(); }
  Token last_token() const { return output.empty() ? request.prompt.back() : output.back(); }
  // Where the sequence ends once the steps in flight have run, without its last token if that is the answer's last.
  std::int32_t target_len() const {
    const std::int32_t longest = request.prompt_len() + std::max(request.limits.max_new_tokens - 1, 0);
    return std::min(num_tokens() + num_pending, longest);
  }
  std::int32_t num_left() const { return target_len() - sequence->num_scheduled; }
};

}  // namespace blendserve
