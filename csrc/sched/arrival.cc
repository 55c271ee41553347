#include <algorithm>
#include <string>
#include <utility>

#include "base/error.h"
#include "sched/step_scheduler.h"

namespace blendserve {
namespace {

void require_as_many(std::int64_t num_prompts, const char* what, std::size_t count) {
  if (static_cast<std::int64_t>(count) == num_prompts) return;
  throw InvalidInput("there are " + std::to_string(num_prompts) + " prompts, but " + what + " for " +
                     std::to_string(count));
}

void require_at_least(const std::string& name, const char* field, std::int32_t value, std::int32_t low,
                      const char* rule) {
  if (value < low) throw InvalidInput(name + " has " + field + " " + std::to_string(value) + "; it must be " + rule);
}

}  // namespace

std::int32_t StepScheduler::add_stop_set(std::vector<Token> tokens) {
  std::ranges::sort(tokens);
  const auto known = std::ranges::find(stop_sets_, tokens);
  if (known != stop_sets_.end()) return static_cast<std::int32_t>(known - stop_sets_.begin());
  stop_sets_.push_back(std::move(tokens));
  return static_cast<std::int32_t>(stop_sets_.size()) - 1;
}

// `index` is its place among those it arrives with.
void StepScheduler::check_arrival(const Request& request, std::int64_t index) const {
  const LengthLimits& limits = request.limits;
  const std::string name = "request " + std::to_string(index);
  if (request.prompt.empty()) throw InvalidInput(name + " has an empty prompt; give it at least one token");
  require_at_least(name, "max_new_tokens", limits.max_new_tokens, 0, "0 or more");
  require_at_least(name, "prompt_logprobs", request.prompt_logprobs, kNoPromptLogprobs, "0 or more, or -1 for none");
  if (limits.stop_set < 0 || limits.stop_set >= static_cast<std::int32_t>(stop_sets_.size())) {
    throw InvalidInput(name + " has stop set " + std::to_string(limits.stop_set) + ", which is not registered");
  }
  const std::int64_t capacity = cache_.num_blocks() * cache_.block_size();
  const std::int64_t max_len = static_cast<std::int64_t>(request.prompt.size()) + limits.max_new_tokens;
  if (max_len > capacity) {
    throw InvalidInput(name + " needs " + std::to_string(max_len) + " tokens of KV cache (prompt " +
                       std::to_string(request.prompt.size()) + " + output " + std::to_string(limits.max_new_tokens) +
                       "), but the cache holds " + std::to_string(capacity) +
                       "; give it more KV memory or lower max_tokens");
  }
}

RequestId StepScheduler::add_requests(Workload workload, std::span<const LengthLimits> limits,
                                      std::span<const std::int32_t> prompt_logprobs) {
  const std::int64_t count = workload.size();
  require_as_many(count, "limits", limits.size());
  if (!prompt_logprobs.empty()) require_as_many(count, "prompt_logprobs", prompt_logprobs.size());
  if (num_requests() + count > INT32_MAX) {
    throw InvalidInput("more than " + std::to_string(INT32_MAX) + " requests; run the job in several windows");
  }
  std::vector<Request> arrived;
  arrived.reserve(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) {
    const auto index = static_cast<std::size_t>(i);
    const std::int32_t num_top = prompt_logprobs.empty() ? kNoPromptLogprobs : prompt_logprobs[index];
    arrived.push_back({static_cast<RequestId>(num_requests() + i), workload.prompt(i), limits[index], num_top});
    check_arrival(arrived.back(), i);
  }
  rows_.reserve(rows_.size() + arrived.size());
  for (const Request& request : arrived) {
    rows_.emplace_back().request = request;
    on_wait(request.id);
  }
  workloads_.push_back(std::move(workload));
  policy_->on_arrival(arrived);
  return static_cast<RequestId>(num_requests() - count);
}

}  // namespace blendserve
