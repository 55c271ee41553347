#include "base/index_set.h"

#include <bit>

namespace blendserve {

IndexSet::IndexSet(std::int32_t size) {
  auto num_bits = static_cast<std::size_t>(size);
  do {
    num_bits = (num_bits + kWordBits - 1) / kWordBits;
    levels_.emplace_back(num_bits, 0);
  } while (num_bits > 1);
}

bool IndexSet::contains(std::int32_t index) const {
  return (levels_[0][static_cast<std::size_t>(index) / kWordBits] >> (index % kWordBits) & 1) != 0;
}

void IndexSet::insert(std::int32_t index) {
  auto bit = static_cast<std::size_t>(index);
  for (auto& level : levels_) {
    level[bit / kWordBits] |= Word{1} << (bit % kWordBits);
    bit /= kWordBits;
  }
}

void IndexSet::erase(std::int32_t index) {
  auto bit = static_cast<std::size_t>(index);
  for (auto& level : levels_) {
    level[bit / kWordBits] &= ~(Word{1} << (bit % kWordBits));
    if (level[bit / kWordBits] != 0) return;
    bit /= kWordBits;
  }
}

std::int32_t IndexSet::next(std::int32_t index) const {
  auto bit = static_cast<std::size_t>(index) + 1;
  for (std::size_t height = 0; height < levels_.size(); ++height) {
    if (bit / kWordBits >= levels_[height].size()) return kNone;
    const Word above = levels_[height][bit / kWordBits] >> (bit % kWordBits);
    if (above != 0) {
      bit += static_cast<std::size_t>(std::countr_zero(above));
      while (height-- > 0) bit = bit * kWordBits + static_cast<std::size_t>(std::countr_zero(levels_[height][bit]));
      return static_cast<std::int32_t>(bit);
    }
    bit = bit / kWordBits + 1;
  }
  return kNone;
}

std::int32_t IndexSet::previous(std::int32_t index) const {
  auto end = static_cast<std::size_t>(index);  // bits before it are looked at
  for (std::size_t height = 0; height < levels_.size() && end > 0; ++height) {
    const std::size_t word = (end - 1) / kWordBits;
    const int num_above = static_cast<int>(kWordBits - 1 - (end - 1) % kWordBits);
    const Word below = levels_[height][word] << num_above;
    if (below != 0) {
      std::size_t bit = end - 1 - static_cast<std::size_t>(std::countl_zero(below));
      while (height-- > 0) {
        bit = bit * kWordBits + kWordBits - 1 - static_cast<std::size_t>(std::countl_zero(levels_[height][bit]));
      }
      return static_cast<std::int32_t>(bit);
    }
    end = word;
  }
  return kNone;
}

}  // namespace blendserve
