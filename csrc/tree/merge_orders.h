#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "base/ids.h"
#include "tree/sort_prompts.h"

namespace blendserve {

// Merges two orders into one; of equal prompts those of `a` come first. `prompt` gives the tokens of a row of either.
// Tokens are compared only where both orders agree with the merged one so far: each of them at most once.
PromptOrder merge_orders(const PromptOrder& a, const PromptOrder& b,
                         const std::function<std::span<const Token>(std::int32_t row)>& prompt);

}  // namespace blendserve
