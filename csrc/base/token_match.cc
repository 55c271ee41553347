#include "base/token_match.h"

#include <algorithm>

namespace blendserve {
namespace {

constexpr std::size_t kChunk = 16;

// Without a branch inside, so that compilers turn the loop into a few vector instructions.
bool chunk_differs(const Token* a, const Token* b) {
  Token difference = 0;
  for (std::size_t i = 0; i < kChunk; ++i) difference |= a[i] ^ b[i];
  return difference != 0;
}

}  // namespace

std::int64_t common_prefix_len(std::span<const Token> a, std::span<const Token> b) {
  const std::size_t size = std::min(a.size(), b.size());
  std::size_t i = 0;
  while (i + kChunk <= size && !chunk_differs(a.data() + i, b.data() + i)) i += kChunk;
  while (i < size && a[i] == b[i]) ++i;
  return static_cast<std::int64_t>(i);
}

}  // namespace blendserve
