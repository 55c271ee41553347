#pragma once

#include <cstdint>
#include <span>
#include <vector>

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
class BlockIndex {
 public:
  BlockIndex(std::int64_t num_blocks, std::int32_t block_size);

  // kNoBlock when no such block is in the index.
  BlockId find(const BlockKey& key) const;
  // The key must not be in the index, nor the block.
  void insert(BlockId block, const BlockKey& key);
  void erase(BlockId block);

  BlockId parent(BlockId block) const { return parents_[static_cast<std::size_t>(block)]; }
  std::span<const Token> tokens(BlockId block) const;
  BlockKey key(BlockId block) const { return {parent(block), tokens(block), salts_[static_cast<std::size_t>(block)]}; }
  std::int64_t size() const { return size_; }

  void verify() const;

 private:
  static std::uint64_t hash(const BlockKey& key);
  std::size_t home(BlockId block) const { return hashes_[static_cast<std::size_t>(block)] & mask_; }
  bool has_key(BlockId block, std::uint64_t hash, const BlockKey& key) const;

  std::int32_t block_size_;
  std::size_t mask_;                   // number of slots - 1, a power of two minus one
  std::vector<BlockId> slots_;         // kNoBlock where empty
  std::vector<std::uint64_t> hashes_;  // by block
  std::vector<BlockId> parents_;       // by block
  std::vector<std::uint64_t> salts_;   // by block
  std::vector<Token> tokens_;          // [num_blocks, block_size]
  std::int64_t size_ = 0;
};

}  // namespace blendserve
