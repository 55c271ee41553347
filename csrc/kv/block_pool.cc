#include "kv/block_pool.h"

#include <string>

#include "base/error.h"

namespace blendserve {

BlockPool::BlockPool(std::int64_t num_blocks) {
  if (num_blocks < 1 || num_blocks > INT32_MAX) {
    throw InvalidInput("num_blocks is " + std::to_string(num_blocks) + "; it must be between 1 and " +
                       std::to_string(INT32_MAX));
  }
  const auto count = static_cast<std::size_t>(num_blocks);
  num_holders_.assign(count, 0);
  is_free_.assign(count, true);
  free_.reserve(count);
  for (BlockId block = static_cast<BlockId>(num_blocks) - 1; block >= 0; --block) free_.push_back(block);
}

std::optional<BlockId> BlockPool::allocate() {
  if (free_.empty()) return std::nullopt;
  const BlockId block = free_.back();
  free_.pop_back();
  is_free_[static_cast<std::size_t>(block)] = false;
  num_holders_[static_cast<std::size_t>(block)] = 1;
  return block;
}

void BlockPool::hold(BlockId block) {
  BLENDSERVE_ASSERT(!is_free_[static_cast<std::size_t>(block)]);
  ++num_holders_[static_cast<std::size_t>(block)];
}

bool BlockPool::release(BlockId block) {
  auto& holders = num_holders_[static_cast<std::size_t>(block)];
  BLENDSERVE_ASSERT(holders > 0);
  return --holders == 0;
}

void BlockPool::recycle(BlockId block) {
  const auto index = static_cast<std::size_t>(block);
  BLENDSERVE_ASSERT(num_holders_[index] == 0 && !is_free_[index]);
  is_free_[index] = true;
  free_.push_back(block);
}

void BlockPool::verify() const {
  std::vector<bool> on_list(is_free_.size(), false);
  for (const BlockId block : free_) {
    const auto index = static_cast<std::size_t>(block);
    BLENDSERVE_ASSERT(!on_list[index]);
    BLENDSERVE_ASSERT(num_holders_[index] == 0);
    on_list[index] = true;
  }
  BLENDSERVE_ASSERT(on_list == is_free_);
}

}  // namespace blendserve
