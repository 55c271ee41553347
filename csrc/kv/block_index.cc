#include "kv/block_index.h"

#include <algorithm>
#include <bit>

#include "base/error.h"
#include "base/rng.h"

namespace blendserve {
namespace {

constexpr std::uint64_t kPlace = 0xD6E8FEB86659FD93ULL;  // odd, its bits spread

}  // namespace

BlockIndex::BlockIndex(std::int64_t num_blocks, std::int32_t block_size)
    : block_size_(block_size),
      mask_(std::bit_ceil(2 * static_cast<std::size_t>(num_blocks)) - 1),
      slots_(mask_ + 1),
      entries_(static_cast<std::size_t>(num_blocks)),
      tokens_(static_cast<std::size_t>(num_blocks) * static_cast<std::size_t>(block_size)) {}

// The sum of the mixed tokens, two by two, each mixed with its place: no addend waits for another.
std::uint32_t BlockIndex::hash(const BlockKey& key) {
  const auto tokens = key.tokens;
  std::uint64_t sum = mix64(key.salt) + static_cast<std::uint32_t>(key.parent);
  for (std::size_t i = 0; i < tokens.size(); i += 2) {
    const std::uint64_t second = i + 1 < tokens.size() ? static_cast<std::uint32_t>(tokens[i + 1]) : 0;
    const std::uint64_t pair = static_cast<std::uint64_t>(static_cast<std::uint32_t>(tokens[i])) << 32 | second;
    sum += mix64(pair ^ (i * kPlace));
  }
  return static_cast<std::uint32_t>(mix64(sum));
}

std::span<const Token> BlockIndex::tokens(BlockId block) const {
  const auto size = static_cast<std::size_t>(block_size_);
  return {tokens_.data() + static_cast<std::size_t>(block) * size, size};
}

bool BlockIndex::has_key(BlockId block, const BlockKey& key) const {
  return entry(block).parent == key.parent && entry(block).salt == key.salt &&
         std::ranges::equal(tokens(block), key.tokens);
}

std::size_t BlockIndex::slot_of(const BlockKey& key, std::uint32_t hash) const {
  std::size_t slot = hash & mask_;
  while (slots_[slot].block != kNoBlock && (slots_[slot].hash != hash || !has_key(slots_[slot].block, key))) {
    slot = (slot + 1) & mask_;
  }
  return slot;
}

BlockId BlockIndex::find(const BlockKey& key) const { return slots_[slot_of(key, hash(key))].block; }

BlockId BlockIndex::find_or_insert(const BlockKey& key, BlockId block) {
  BLENDSERVE_ASSERT(static_cast<std::int32_t>(key.tokens.size()) == block_size_);
  const std::uint32_t h = hash(key);
  Slot& slot = slots_[slot_of(key, h)];
  if (slot.block != kNoBlock) return slot.block;
  slot = {block, h};
  entries_[static_cast<std::size_t>(block)] = {key.salt, key.parent, h};
  std::ranges::copy(key.tokens, tokens_.data() + static_cast<std::ptrdiff_t>(block) * block_size_);
  ++size_;
  return block;
}

void BlockIndex::erase(BlockId block) {
  std::size_t hole = entry(block).hash & mask_;
  while (slots_[hole].block != block) {
    BLENDSERVE_ASSERT(slots_[hole].block != kNoBlock);
    hole = (hole + 1) & mask_;
  }
  // Close the gap: an entry behind the hole moves into it unless its home lies after the hole, cyclically.
  for (std::size_t slot = (hole + 1) & mask_; slots_[slot].block != kNoBlock; slot = (slot + 1) & mask_) {
    const std::size_t distance_from_home = (slot - slots_[slot].hash) & mask_;
    if (distance_from_home >= ((slot - hole) & mask_)) {
      slots_[hole] = slots_[slot];
      hole = slot;
    }
  }
  slots_[hole].block = kNoBlock;
  --size_;
}

void BlockIndex::verify() const {
  std::int64_t count = 0;
  for (const Slot& slot : slots_) {
    if (slot.block == kNoBlock) continue;
    ++count;
    BLENDSERVE_ASSERT(slot.hash == entry(slot.block).hash && find(key(slot.block)) == slot.block);
  }
  BLENDSERVE_ASSERT(count == size_);
}

}  // namespace blendserve
