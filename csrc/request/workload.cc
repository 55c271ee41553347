#include "request/workload.h"

#include <string>
#include <utility>

#include "base/error.h"

namespace blendserve {

Workload::Workload(std::span<const Token> tokens, std::span<const std::int64_t> offsets,
                   std::shared_ptr<const void> owner)
    : tokens_(tokens), offsets_(offsets), owner_(std::move(owner)) {
  if (offsets.empty()) {
    throw InvalidInput("offsets is empty; n prompts need n + 1 offsets, the first one 0");
  }
  if (offsets.front() < 0) {
    throw InvalidInput("offsets[0] is " + std::to_string(offsets.front()) + "; it must be 0 or more");
  }
  for (std::size_t i = 1; i < offsets.size(); ++i) {
    if (offsets[i] < offsets[i - 1]) {
      throw InvalidInput("offsets[" + std::to_string(i) + "] is " + std::to_string(offsets[i]) +
                         ", less than the one before (" + std::to_string(offsets[i - 1]) + "); offsets must not fall");
    }
  }
  if (offsets.back() > static_cast<std::int64_t>(tokens.size())) {
    throw InvalidInput("the last offset is " + std::to_string(offsets.back()) + ", but there are only " +
                       std::to_string(tokens.size()) + " tokens");
  }
}

Workload Workload::from_prompts(const std::vector<std::vector<Token>>& prompts) {
  struct Buffers {
    std::vector<Token> tokens;
    std::vector<std::int64_t> offsets{0};
  };
  auto buffers = std::make_shared<Buffers>();
  for (const auto& prompt : prompts) {
    buffers->tokens.insert(buffers->tokens.end(), prompt.begin(), prompt.end());
    buffers->offsets.push_back(static_cast<std::int64_t>(buffers->tokens.size()));
  }
  return Workload(buffers->tokens, buffers->offsets, buffers);
}

}  // namespace blendserve
