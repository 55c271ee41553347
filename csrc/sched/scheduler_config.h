#pragma once

#include <cstdint>

namespace blendserve {

struct SchedulerConfig {
  std::int64_t num_blocks = 0;                 // KV blocks
  std::int32_t block_size = 16;                // tokens a block
  std::int32_t max_batch_tokens = 2048;        // tokens a step, at most
  std::int32_t max_batch_requests = 1024;      // running requests, at most; <= max_batch_tokens
  std::int32_t max_chunk_tokens = INT32_MAX;   // tokens of one request a step, at most; bounds what a long prompt takes
  std::int32_t max_prompt_logits = INT32_MAX;  // rows a step whose logits score prompts, at most; bounds their memory
  std::int32_t max_waiting_readers = 256;      // taken requests that wait for a prefix another request is computing
  std::int32_t max_steps_in_flight = 1;        // 2: the next step may be planned before this one has run
  double watermark = 0.01;                     // share of the blocks that admission leaves free for running requests

  // Throws InvalidInput that names the value and the remedy.
  void validate() const;
};

}  // namespace blendserve
