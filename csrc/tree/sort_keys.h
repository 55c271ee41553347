#pragma once

#include <cstdint>
#include <span>

namespace blendserve {

// Sorts `keys` by the bits from `low_bit` on. Equal ones keep their order. Linear in the number of keys; `scratch` is
// at least as long as `keys`.
void sort_keys(std::span<std::uint64_t> keys, std::span<std::uint64_t> scratch, int low_bit);

}  // namespace blendserve
