#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "base/ids.h"

namespace blendserve {

// The tokens of one request, prompt then output, read as one sequence. Borrows both.
class TokenView {
 public:
  TokenView(std::span<const Token> prompt, std::span<const Token> output) : prompt_(prompt), output_(output) {}

  std::int32_t size() const { return static_cast<std::int32_t>(prompt_.size() + output_.size()); }

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
};

}  // namespace blendserve
