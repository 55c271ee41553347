#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/aligned_array.h"
#include "base/ids.h"

namespace blendserve {

// What makes a cached block what it is. `parent` is kNoBlock for the first block of a sequence; blocks that hold the
// same tokens but may not stand for each other differ in their salt.
struct BlockKey {
  BlockId parent = kNoBlock;
  std::span<const Token> tokens;
  std::uint64_t salt = 0;
};

// Finds a cached block by its key: a hash table with linear probing that never grows, since at
// most every block of the pool is in it. It compares the tokens themselves, so a hash collision can't mix up two texts.
// Blocks are looked up in no order of memory, so what is read of one lies together.
class BlockIndex {
 public:
  BlockIndex(std::int64_t num_blocks, std::int32_t block_size);

  // kNoBlock when no such block is in the index.
  BlockId find(const BlockKey& key) const;
  // The block with this key: `block`, which must not be in the index, unless another one has it already.
  BlockId find_or_insert(const BlockKey& key, BlockId block);
  void erase(BlockId block);

  BlockId parent(BlockId block) const { return entry(block).parent; }
  std::span<const Token> tokens(BlockId block) const;
  BlockKey key(BlockId block) const { return {parent(block), tokens(block), entry(block).salt}; }
  std::int64_t size() const { return size_; }

  void verify() const;

 private:
  struct Slot {
    BlockId block = kNoBlock;  // kNoBlock where empty
    std::uint32_t hash = 0;    // of its key
  };
  struct Entry {
    std::uint64_t salt = 0;
    BlockId parent = kNoBlock;
    std::uint32_t hash = 0;
  };

  static std::uint32_t hash(const BlockKey& key);
  const Entry& entry(BlockId block) const { return entries_[static_cast<std::size_t>(block)]; }
  bool has_key(BlockId block, const BlockKey& key) const;
  // Where the block with the key stands, or else the empty slot where it belongs.
  std::size_t slot_of(const BlockKey& key, std::uint32_t hash) const;

  std::int32_t block_size_;
  std::size_t mask_;  // number of slots - 1, a power of two minus one
  std::vector<Slot> slots_;
  std::vector<Entry> entries_;  // by block
  AlignedArray<Token> tokens_;  // [num_blocks, block_size]
  std::int64_t size_ = 0;
};

}  // namespace blendserve
