#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

namespace blendserve {

// Lengths in buckets of equal ratio, nearly: 8 to every doubling from 2^-10 to 2^22, so a bucket is at most 1/8 as wide
// as where it begins. Bucket 0 begins at 0, the last one has no end. Lengths are positive reals: tokens, or multiples
// of an estimate.
struct LengthBuckets {
  static constexpr int kCount = 256;

  static constexpr int of(double len) {
    if (!(len > begin(1))) return 0;
    const auto index = static_cast<std::int64_t>(std::bit_cast<std::uint64_t>(len) >> kShift) - kFirst;
    return static_cast<int>(std::min<std::int64_t>(index, kCount - 1));
  }
  static constexpr double begin(int bucket) {
    return bucket == 0 ? 0.0 : std::bit_cast<double>(static_cast<std::uint64_t>(bucket + kFirst) << kShift);
  }
  // Of the last bucket: where it would end if it were like the others.
  static constexpr double end(int bucket) { return begin(bucket + 1); }
  static constexpr double middle(int bucket) { return (begin(bucket) + end(bucket)) / 2.0; }

 private:
  static constexpr int kShift = 49;               // leaves sign, exponent and three bits of a double
  static constexpr int kFirst = (1023 - 10) * 8;  // of 2^-10
};

}  // namespace blendserve
