#include "kv/lru_list.h"

#include "base/error.h"

namespace blendserve {

LruList::LruList(std::int64_t num_blocks) : sentinel_(static_cast<std::size_t>(num_blocks)), links_(sentinel_ + 1) {
  link(end(), end());
}

void LruList::link(BlockId before, BlockId behind) {
  links(before).next = behind;
  links(behind).previous = before;
}

void LruList::push_back(BlockId block) {
  BLENDSERVE_ASSERT(!contains(block));
  const BlockId back = links(end()).previous;
  link(back, block);
  link(block, end());
  ++size_;
}

void LruList::erase(BlockId block) {
  BLENDSERVE_ASSERT(contains(block));
  link(links(block).previous, links(block).next);
  links(block) = {};
  --size_;
}

}  // namespace blendserve
