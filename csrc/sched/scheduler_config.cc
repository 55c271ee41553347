#include "sched/scheduler_config.h"

#include <string>

#include "base/error.h"

namespace blendserve {
namespace {

void require_at_least_one(const char* name, std::int64_t value) {
  if (value < 1) {
    throw InvalidInput(std::string(name) + " is " + std::to_string(value) + "; it must be at least 1");
  }
}

}  // namespace

void SchedulerConfig::validate() const {
  require_at_least_one("num_blocks", num_blocks);
  require_at_least_one("block_size", block_size);
  require_at_least_one("max_batch_tokens", max_batch_tokens);
  require_at_least_one("max_batch_requests", max_batch_requests);
  require_at_least_one("max_chunk_tokens", max_chunk_tokens);
  require_at_least_one("max_prompt_logits", max_prompt_logits);
  if (max_batch_requests > max_batch_tokens) {
    throw InvalidInput("max_batch_requests is " + std::to_string(max_batch_requests) +
                       ", more than max_batch_tokens (" + std::to_string(max_batch_tokens) +
                       "); every running request computes at least one token a step: raise max_batch_tokens or lower "
                       "max_batch_requests");
  }
  if (max_steps_in_flight != 1 && max_steps_in_flight != 2) {
    throw InvalidInput("max_steps_in_flight is " + std::to_string(max_steps_in_flight) + "; it must be 1 or 2");
  }
  if (max_waiting_readers < 0) {
    throw InvalidInput("max_waiting_readers is " + std::to_string(max_waiting_readers) + "; it must be 0 or more");
  }
  if (!(watermark >= 0.0 && watermark < 1.0)) {
    throw InvalidInput("watermark is " + std::to_string(watermark) + "; it must be at least 0 and below 1");
  }
}

}  // namespace blendserve
