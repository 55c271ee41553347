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
  tokens_.assign(count * static_cast<std::size_t>(block_size), 0);
}

std::uint64_t BlockIndex::hash(BlockId parent, std::span<const Token> tokens) {
  std::uint64_t h = static_cast<std::uint32_t>(parent);
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

bool BlockIndex::has_key(BlockId block, std::uint64_t hash, BlockId parent, std::span<const Token> key_tokens) const {
  const auto index = static_cast<std::size_t>(block);
  return hashes_[index] == hash && parents_[index] == parent && std::ranges::equal(tokens(block), key_tokens);
}

BlockId BlockIndex::find(BlockId parent, std::span<const Token> key_tokens) const {
  const std::uint64_t h = hash(parent, key_tokens);
  for (std::size_t slot = h & mask_; slots_[slot] != kNoBlock; slot = (slot + 1) & mask_) {
    if (has_key(slots_[slot], h, parent, key_tokens)) return slots_[slot];
  }
  return kNoBlock;
}

void BlockIndex::insert(BlockId block, BlockId parent, std::span<const Token> key_tokens) {
  BLENDSERVE_ASSERT(static_cast<std::int32_t>(key_tokens.size()) == block_size_);
  const auto index = static_cast<std::size_t>(block);
  hashes_[index] = hash(parent, key_tokens);
  parents_[index] = parent;
  std::ranges::copy(key_tokens, tokens_.begin() + static_cast<std::ptrdiff_t>(index) * block_size_);
  std::size_t slot = home(block);
  while (slots_[slot] != kNoBlock) {
    BLENDSERVE_ASSERT(slots_[slot] != block && !has_key(slots_[slot], hashes_[index], parent, key_tokens));
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
    BLENDSERVE_ASSERT(find(parent(block), tokens(block)) == block);
  }
  BLENDSERVE_ASSERT(count == size_);
}

}  // namespace blendserve
