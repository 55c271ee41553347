#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "base/ids.h"
#include "request/request.h"
#include "request/time_correction.h"

namespace blendserve {

// What a policy may see of the scheduler when it decides. Block counts are of the whole pool.
struct SchedulerView {
  std::int64_t num_blocks = 0;
  std::int64_t num_available_blocks = 0;  // free now, or freed by evicting cached prefixes nobody reads
  std::int64_t num_watermark_blocks = 0;  // of these, kept from new requests for running ones
  std::int32_t block_size = 0;
  std::int32_t num_running = 0;
  std::int32_t max_batch_tokens = 0;
  std::int32_t num_decodes = 0;         // of the step being planned, each a token
  std::int64_t decode_kv_tokens = 0;    // that they read
  std::int64_t num_prefill_tokens = 0;  // that running requests have left to compute, when the step started
  std::int32_t prefill_context = 0;     // computed tokens of the running request whose prompt is next to be computed

  // Whether a new request of so many tokens gets its blocks even if none of them is cached.
  bool has_room_for(std::int64_t num_tokens) const {
    return (num_tokens + block_size - 1) / block_size + num_watermark_blocks <= num_available_blocks;
  }
};

// Decides *which* request runs next and how wide a step is; the StepScheduler does the mechanics. One policy object
// drives the engine and the simulator. A request that arrived is in exactly one state:
//
//   waiting   next() may offer it
//   taken     the scheduler has it: admitted, or waiting for a prefix that another request is computing
//   finished  it never comes back
//
// Calls come from one thread.
class SchedulingPolicy {
 public:
  virtual ~SchedulingPolicy() = default;

  // New requests, now waiting. The prompts stay valid for the life of the scheduler.
  virtual void on_arrival(std::span<const Request> requests) = 0;

  // The waiting request to admit next, or none. It stays waiting, and is offered again, until taken.
  virtual std::optional<RequestId> next(const SchedulerView& view) = 0;
  virtual void take(RequestId id) = 0;

  // A taken request has its prompt computed and goes on generating: it has `num_generated` tokens, and gets one more in
  // every step from now on.
  virtual void on_decode_start(RequestId, std::int32_t /*num_generated*/) {}

  // A taken request gave up its KV blocks (preempted, or its step failed) and is waiting again, ahead of its peers,
  // with the `num_tokens` it has in prompt and output.
  virtual void on_preempt(RequestId id, std::int32_t num_tokens) = 0;

  // A request ended: `output_len` tokens were generated. It may still be waiting when it was cancelled.
  virtual void on_finish(RequestId id, std::int32_t output_len) = 0;

  // A step starts, before its next(): the tokens it may compute. Decodes always run, the rest is for prefill.
  virtual std::int32_t token_budget(const SchedulerView& view) = 0;

  // The request to preempt among `running` (not empty, in order of admission) when a decode finds no free block.
  virtual RequestId choose_victim(std::span<const RequestId> running) = 0;

  // Between steps: how the device's times differ from those the policy plans with. 1 until told, each time the whole of
  // it.
  virtual void correct_times(const TimeCorrection&) {}

  // Whether a taken request was admitted for the memory bandwidth it uses, for reports.
  virtual bool is_memory_side(RequestId) const { return false; }
};

}  // namespace blendserve
