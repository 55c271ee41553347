#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/ids.h"

namespace blendserve {

// The prompts of many requests as one flat token buffer: prompt i is tokens[offsets[i], offsets[i + 1]).
// The buffers are borrowed (from NumPy, Arrow, a memory-mapped file) and kept alive by `owner`, or owned.
class Workload {
 public:
  // Throws InvalidInput unless offsets start at 0 or later, never fall, and end within tokens.
  Workload(std::span<const Token> tokens, std::span<const std::int64_t> offsets, std::shared_ptr<const void> owner);

  static Workload from_prompts(const std::vector<std::vector<Token>>& prompts);

  std::int64_t size() const { return static_cast<std::int64_t>(offsets_.size()) - 1; }
  std::span<const Token> prompt(std::int64_t row) const {
    return tokens_.subspan(static_cast<std::size_t>(offsets_[static_cast<std::size_t>(row)]),
                           static_cast<std::size_t>(offsets_[static_cast<std::size_t>(row) + 1] -
                                                    offsets_[static_cast<std::size_t>(row)]));
  }

 private:
  std::span<const Token> tokens_;
  std::span<const std::int64_t> offsets_;
  std::shared_ptr<const void> owner_;
};

}  // namespace blendserve
