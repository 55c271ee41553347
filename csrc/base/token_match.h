#pragma once

#include <cstdint>
#include <span>

#include "base/ids.h"

namespace blendserve {

// How many tokens `a` and `b` have in common at their beginning, at most min(a.size(), b.size()).
std::int64_t common_prefix_len(std::span<const Token> a, std::span<const Token> b);

}  // namespace blendserve
