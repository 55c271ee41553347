#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/ids.h"

namespace blendserve {

// Counts the holders of every physical block and hands out free ones. A block is free (on the free list), held (one
// holder or more), or unheld but kept: its content is worth keeping, and its keeper recycles it later.
class BlockPool {
 public:
  explicit BlockPool(std::int64_t num_blocks);

  std::int64_t num_blocks() const { return static_cast<std::int64_t>(num_holders_.size()); }
  std::int64_t num_free() const { return static_cast<std::int64_t>(free_.size()); }
  std::int32_t num_holders(BlockId block) const { return num_holders_[static_cast<std::size_t>(block)]; }

  // A free block, now with one holder; none when there is no free block.
  std::optional<BlockId> allocate();
  void hold(BlockId block);
  // Returns true when that was the last holder: the block is now kept, and someone must recycle it in the end.
  bool release(BlockId block);
  // Puts an unheld block that is not on the free list back there.
  void recycle(BlockId block);

  void verify() const;

 private:
  std::vector<std::int32_t> num_holders_;
  std::vector<bool> is_free_;
  std::vector<BlockId> free_;  // a stack: the block freed last is the warmest in cache
};

}  // namespace blendserve
