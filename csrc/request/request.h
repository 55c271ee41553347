#pragma once

#include <cstdint>
#include <span>

#include "base/ids.h"
#include "request/token_view.h"

namespace blendserve {

// When a request ends on its own. Stop strings are not here: they are found on the host, which then stops the request.
struct LengthLimits {
  std::int32_t max_new_tokens = 0;  // generation ends with this many tokens at the latest; 0: the prompt alone
  std::int32_t stop_set = 0;        // index of a registered set of stop token ids; set 0 is empty
};

// What the scheduler and the policies know of one request. `prompt` is borrowed from the Workload it came with.
struct Request {
  RequestId id = kNoRequest;
  std::span<const Token> prompt;
  LengthLimits limits;
  std::int32_t prompt_logprobs = kNoPromptLogprobs;  // most likely tokens reported beside each prompt token

  bool scores_prompt() const { return prompt_logprobs != kNoPromptLogprobs; }
  bool is_sampled() const { return limits.max_new_tokens > 0; }
  std::int32_t prompt_len() const { return static_cast<std::int32_t>(prompt.size()); }
  std::int32_t max_len() const { return prompt_len() + limits.max_new_tokens; }
};

}  // namespace blendserve
