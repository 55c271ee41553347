#pragma once

#include <cstdint>

namespace blendserve {

// splitmix64's finalizer (Steele, Lea, Flood, OOPSLA 2014): a bijection on 64 bits with full avalanche.
constexpr std::uint64_t mix64(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15ULL;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

// Counter-based: draw `counter` of the stream `key`, with no state to carry. Any draw can be made at any time, in any
// order, so randomness depends on what is drawn and never on when.
constexpr std::uint64_t random_bits(std::uint64_t key, std::uint64_t counter) { return mix64(mix64(key) ^ counter); }

// Uniform in [0, 1) with 53 random bits.
constexpr double random_uniform(std::uint64_t key, std::uint64_t counter) {
  return static_cast<double>(random_bits(key, counter) >> 11) * 0x1.0p-53;
}

}  // namespace blendserve
