#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "base/ids.h"

namespace blendserve {

inline constexpr std::int32_t kNoPromptLogprobs = -1;

// The tokens of one request, prompt then output, read as one sequence. Borrows both.
//
// A request that asks for log-probs of its prompt needs a score for every position of it, which whoever computed a
// cached block has only if it asked for as many. So its blocks are known by more than their tokens: the salt names what
// else their positions were computed for. A position's score is of the token that follows it, so the salt of a block
// names that too, and the last shared block ends before the prompt does.
class TokenView {
 public:
  TokenView(std::span<const Token> prompt, std::span<const Token> output,
            std::int32_t prompt_logprobs = kNoPromptLogprobs)
      : prompt_(prompt), output_(output), prompt_logprobs_(prompt_logprobs) {}

  std::int32_t size() const { return static_cast<std::int32_t>(prompt_.size() + output_.size()); }

  // Blocks may be shared with other requests up to here.
  std::int32_t shareable_len() const {
    return prompt_logprobs_ == kNoPromptLogprobs ? size() : static_cast<std::int32_t>(prompt_.size()) - 1;
  }
  // Of the shareable block that ends before token `end`.
  std::uint64_t salt(std::int32_t end) const {
    if (prompt_logprobs_ == kNoPromptLogprobs) return 0;
    return static_cast<std::uint64_t>(prompt_logprobs_ + 1) << 32 |
           static_cast<std::uint32_t>(prompt_[static_cast<std::size_t>(end)]);
  }

  // Tokens [begin, begin + scratch.size()): where they lie, or copied into `scratch` if they are not in one piece.
  std::span<const Token> slice(std::int32_t begin, std::span<Token> scratch) const {
    const auto first = static_cast<std::size_t>(begin);
    if (first >= prompt_.size()) return output_.subspan(first - prompt_.size(), scratch.size());
    if (first + scratch.size() <= prompt_.size()) return prompt_.subspan(first, scratch.size());
    copy(begin, scratch);
    return scratch;
  }

  // Copies tokens [begin, begin + destination.size()) into `destination`.
  void copy(std::int32_t begin, std::span<Token> destination) const {
    const auto first = static_cast<std::size_t>(begin);
    const std::size_t from_prompt =
        first < prompt_.size() ? std::min(destination.size(), prompt_.size() - first) : std::size_t{0};
    std::copy_n(prompt_.begin() + static_cast<std::ptrdiff_t>(std::min(first, prompt_.size())), from_prompt,
                destination.begin());
    const std::size_t output_begin = first + from_prompt - prompt_.size();
    if (from_prompt < destination.size()) {
      std::copy_n(output_.begin() + static_cast<std::ptrdiff_t>(output_begin), destination.size() - from_prompt,
                  destination.begin() + static_cast<std::ptrdiff_t>(from_prompt));
    }
  }

 private:
  std::span<const Token> prompt_;
  std::span<const Token> output_;
  std::int32_t prompt_logprobs_;
};

}  // namespace blendserve
