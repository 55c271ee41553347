#pragma once

#include <cstddef>
#include <cstdint>

namespace blendserve::cpu {

inline constexpr std::int32_t kCacheLine = 64;  // bytes

// Memory is fetched into the L2 cache in pieces of kPieceLines cache lines.
inline constexpr std::int32_t kPieceLines = 16;
inline constexpr std::int32_t kPieceBytes = kPieceLines * kCacheLine;

struct Pieces {
  const std::byte* const* first = nullptr;
  std::int32_t count = 0;
};

// Deals pieces out to turns, as evenly as can be, one a turn at most.
class PieceTurns {
 public:
  [[gnu::always_inline]] PieceTurns(Pieces pieces, std::int32_t num_turns) : pieces_(pieces), num_turns_(num_turns) {}

  // The piece of the next turn, or null.
  [[gnu::always_inline]] const std::byte* next() {
    share_ += pieces_.count;
    if (share_ < num_turns_) {
      return nullptr;
    }
    share_ -= num_turns_;
    return *pieces_.first++;
  }

 private:
  Pieces pieces_;
  std::int32_t num_turns_;
  std::int32_t share_ = 0;
};

}  // namespace blendserve::cpu
