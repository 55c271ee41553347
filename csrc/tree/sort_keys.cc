#include "tree/sort_keys.h"

#include <algorithm>
#include <array>
#include <bit>

namespace blendserve {
namespace {

constexpr std::size_t kSmall = 96;
constexpr int kMaxDigitBits = 11;

void insert_in_order(std::span<std::uint64_t> keys, int low_bit) {
  for (std::size_t i = 1; i < keys.size(); ++i) {
    const std::uint64_t key = keys[i];
    std::size_t hole = i;
    for (; hole > 0 && (keys[hole - 1] >> low_bit) > (key >> low_bit); --hole) keys[hole] = keys[hole - 1];
    keys[hole] = key;
  }
}

// One stable counting pass: `from` by the `bits` bits from `shift` on, into `to`.
void distribute(std::span<const std::uint64_t> from, std::span<std::uint64_t> to, std::uint64_t base, int shift,
                int bits) {
  const std::uint64_t mask = (std::uint64_t{1} << bits) - 1;
  std::array<std::uint32_t, std::size_t{1} << kMaxDigitBits> next{};
  for (const std::uint64_t key : from) ++next[((key - base) >> shift) & mask];
  std::uint32_t begin = 0;
  for (std::uint64_t digit = 0; digit <= mask; ++digit) {
    const std::uint32_t count = next[digit];
    next[digit] = begin;
    begin += count;
  }
  for (const std::uint64_t key : from) to[next[((key - base) >> shift) & mask]++] = key;
}

}  // namespace

void sort_keys(std::span<std::uint64_t> keys, std::span<std::uint64_t> scratch, int low_bit) {
  if (keys.size() <= kSmall) {
    insert_in_order(keys, low_bit);
    return;
  }
  const auto [low, high] = std::ranges::minmax(keys);
  const std::uint64_t base = low >> low_bit << low_bit;
  const auto num_bits = static_cast<int>(std::bit_width((high - base) >> low_bit));
  if (num_bits == 0) return;
  const int num_passes = (num_bits + kMaxDigitBits - 1) / kMaxDigitBits;
  const int digit_bits = (num_bits + num_passes - 1) / num_passes;
  std::span<std::uint64_t> from = keys;
  std::span<std::uint64_t> to = scratch.first(keys.size());
  for (int pass = 0; pass < num_passes; ++pass) {
    distribute(from, to, base, low_bit + pass * digit_bits, digit_bits);
    std::swap(from, to);
  }
  if (from.data() != keys.data()) std::ranges::copy(from, keys.begin());
}

}  // namespace blendserve
