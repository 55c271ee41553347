#include "kv/lru_list.h"

#include "base/error.h"

namespace blendserve {

LruList::LruList(std::int64_t num_blocks)
    : sentinel_(static_cast<std::size_t>(num_blocks)),
      next_(sentinel_ + 1, kUnlinked),
      previous_(sentinel_ + 1, kUnlinked) {
  link(end(), end());
}

void LruList::link(BlockId before, BlockId behind) {
  next_[static_cast<std::size_t>(before)] = behind;
  previous_[static_cast<std::size_t>(behind)] = before;
}

void LruList::push_back(BlockId block) {
  BLENDSERVE_ASSERT(!contains(block));
  const BlockId back = previous_[sentinel_];
  link(back, block);
  link(block, end());
  ++size_;
}

void LruList::erase(BlockId block) {
  BLENDSERVE_ASSERT(contains(block));
  link(previous_[static_cast<std::size_t>(block)], next_[static_cast<std::size_t>(block)]);
  next_[static_cast<std::size_t>(block)] = kUnlinked;
  previous_[static_cast<std::size_t>(block)] = kUnlinked;
  --size_;
}

}  // namespace blendserve
