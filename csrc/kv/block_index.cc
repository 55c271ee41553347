#include "kv/block_index.h"

#include <algorithm>
#include <bit>

#include "base/error.h"
#include "base/rng.h"

namespace blendserve {

BlockIndex::BlockIndex(std::int64_t num_blocks, std::int32_t block_size) : block_size_(block_size) {
  const auto count = static_cast<std::size_t>(num_blocks);
  const std::size_t num_slots = std::bit_ceil(2 * count);
  mask_ = num_slots - 1;
  slots_.assign(num_slots, kNoBlock);
  hashes_.assign(count, 0);
  parents_.assign(count, kNoBlock);
  salts_.assign(count, 0);
  tokens_.assign(count * static_cast<std::size_t>(block_size), 0);
}

std::uint64_t BlockIndex::hash(const BlockKey& key) {
  const auto tokens = key.tokens;
  std::uint64_t h = static_cast<std::uint32_t>(key.parent);
  if (key.salt != 0) h = mix64(h ^ key.salt);
  std::size_t i = 0;
  for (; i + 2 <= tokens.size(); i += 2) {
    h = mix64(h ^ (static_cast<std::uint64_t>(static_cast<std::uint32_t>(tokens[i])) << 32 |
                   static_cast<std::uint32_t>(tokens[i + 1])));
  }
  return i < tokens.size() ? mix64(h ^ static_cast<std::uint32_t>(tokens[i])) : h;
}

std::span<const Token> BlockIndex::tokens(BlockId block) const {
  return std::span(tokens_).subspan(static_cast<std::size_t>(block) * static_cast<std::size_t>(block_size_),
                                    static_cast<std::size_t>(block_size_));
}

bool BlockIndex::has_key(BlockId block, std::uint64_t hash, const BlockKey& key) const {
  const auto index = static_cast<std::size_t>(block);
  return hashes_[index] == hash && parents_[index] == key.parent && salts_[index] == key.salt &&
         std::ranges::equal(tokens(block), key.tokens);
}

BlockId BlockIndex::find(const BlockKey& key) const {
  const std::uint64_t h = hash(key);
  for (std::size_t slot = h & mask_; slots_[slot] != kNoBlock; slot = (slot + 1) & mask_) {
    if (has_key(slots_[slot], h, key)) return slots_[slot];
  }
  return kNoBlock;
}

void BlockIndex::insert(BlockId block, const BlockKey& key) {
  BLENDSERVE_ASSERT(static_cast<std::int32_t>(key.tokens.size()) == block_size_);
  const auto index = static_cast<std::size_t>(block);
  hashes_[index] = hash(key);
  parents_[index] = key.parent;
  salts_[index] = key.salt;
  std::ranges::copy(key.tokens, tokens_.begin() + static_cast<std::ptrdiff_t>(index) * block_size_);
  std::size_t slot = home(block);
  while (slots_[slot] != kNoBlock) {
    BLENDSERVE_ASSERT(slots_[slot] != block && !has_key(slots_[slot], hashes_[index], key));
    slot = (slot + 1) & mask_;
  }
  slots_[slot] = block;
  ++size_;
}

void BlockIndex::erase(BlockId block) {
  std::size_t hole = home(block);
  while (slots_[hole] != block) {
    BLENDSERVE_ASSERT(slots_[hole] != kNoBlock);
    hole = (hole + 1) & mask_;
  }
  // Close the gap: an entry behind the hole moves into it unless its home lies after the hole, cyclically.
  for (std::size_t slot = (hole + 1) & mask_; slots_[slot] != kNoBlock; slot = (slot + 1) & mask_) {
    const std::size_t distance_from_home = (slot - home(slots_[slot])) & mask_;
    if (distance_from_home >= ((slot - hole) & mask_)) {
      slots_[hole] = slots_[slot];
      hole = slot;
    }
  }
  slots_[hole] = kNoBlock;
  --size_;
}

void BlockIndex::verify() const {
  std::int64_t count = 0;
  for (const BlockId block : slots_) {
    if (block == kNoBlock) continue;
    ++count;
    BLENDSERVE_ASSERT(find(key(block)) == block);
  }
  BLENDSERVE_ASSERT(count == size_);
}

}  // namespace blendserve
