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
  bool contains(BlockId block) const { return next(block) != kUnlinked; }

  BlockId front() const { return next(end()); }
  BlockId after(BlockId block) const { return next(block); }  // end() behind the last
  BlockId end() const { return static_cast<BlockId>(sentinel_); }

  void push_back(BlockId block);
  void erase(BlockId block);

 private:
  static constexpr BlockId kUnlinked = -1;
  struct Links {
    BlockId next = kUnlinked;
    BlockId previous = kUnlinked;
  };

  Links& links(BlockId block) { return links_[static_cast<std::size_t>(block)]; }
  BlockId next(BlockId block) const { return links_[static_cast<std::size_t>(block)].next; }
  void link(BlockId before, BlockId behind);

  std::size_t sentinel_;  // its next is the front, its previous the back
  std::vector<Links> links_;
  std::int64_t size_ = 0;
};

}  // namespace blendserve
