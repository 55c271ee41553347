#pragma once

#include <cstdint>
#include <vector>

#include "base/ids.h"

namespace blendserve {

// The blocks nobody holds, the one released longest ago in front: an intrusive doubly linked list over block ids.
class LruList {
 public:
  explicit LruList(std::int64_t num_blocks);

  bool empty() const { return size_ == 0; }
  std::int64_t size() const { return size_; }
  bool contains(BlockId block) const { return next_[static_cast<std::size_t>(block)] != kUnlinked; }

  BlockId front() const { return next_[sentinel_]; }
  BlockId after(BlockId block) const { return next_[static_cast<std::size_t>(block)]; }  // end() behind the last
  BlockId end() const { return static_cast<BlockId>(sentinel_); }

  void push_back(BlockId block);
  void erase(BlockId block);

 private:
  static constexpr BlockId kUnlinked = -1;
  void link(BlockId before, BlockId behind);

  std::size_t sentinel_;  // its next is the front, its previous the back
  std::vector<BlockId> next_;
  std::vector<BlockId> previous_;
  std::int64_t size_ = 0;
};

}  // namespace blendserve
