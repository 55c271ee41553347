#include <sstream>

#include "base/error.h"
#include "kv/kv_cache.h"

namespace blendserve {

void KvCache::verify(std::span<const BlockTable* const> tables) const {
  pool_.verify();
  index_.verify();

  std::vector<std::int32_t> num_holders(nodes_.size(), 0);
  for (const BlockTable* table : tables) {
    BLENDSERVE_ASSERT(table->num_published_ <= table->num_in_tree_ && table->num_in_tree_ <= table->size());
    for (std::int32_t i = 0; i < table->size(); ++i) {
      const BlockId block = table->blocks_[static_cast<std::size_t>(i)];
      ++num_holders[static_cast<std::size_t>(block)];
      BLENDSERVE_ASSERT((state(block) != BlockState::kPrivate) == (i < table->num_in_tree_));
      if (i < table->num_published_) BLENDSERVE_ASSERT(state(block) == BlockState::kComputed);
      if (i > 0 && i < table->num_in_tree_) {
        BLENDSERVE_ASSERT(index_.parent(block) == table->blocks_[static_cast<std::size_t>(i) - 1]);
      }
    }
  }

  std::int64_t num_nodes = 0;
  std::int64_t num_free = 0;
  std::vector<std::int32_t> num_children(nodes_.size(), 0);
  for (BlockId block = 0; block < num_blocks(); ++block) {
    const auto index = static_cast<std::size_t>(block);
    BLENDSERVE_ASSERT(pool_.num_holders(block) == num_holders[index]);
    BLENDSERVE_ASSERT(!dead_.contains(block) || !live_.contains(block));
    BLENDSERVE_ASSERT(is_unheld(block) == (num_holders[index] == 0 && state(block) == BlockState::kComputed));
    if (state(block) == BlockState::kPrivate) {
      BLENDSERVE_ASSERT(num_holders[index] <= 1);
      if (num_holders[index] == 0) ++num_free;
      continue;
    }
    verify_node(block);
    ++num_nodes;
    if (index_.parent(block) != kNoBlock) ++num_children[static_cast<std::size_t>(index_.parent(block))];
  }
  BLENDSERVE_ASSERT(num_free == pool_.num_free());
  BLENDSERVE_ASSERT(num_nodes == index_.size());
  for (BlockId block = 0; block < num_blocks(); ++block) {
    BLENDSERVE_ASSERT(node(block).num_children == num_children[static_cast<std::size_t>(block)]);
  }

  for (BlockId block = dead_.front(); block != dead_.end(); block = dead_.after(block)) {
    BLENDSERVE_ASSERT(node(block).num_live_children == 0);
  }
  verify_order(dead_);
  verify_order(live_);
}

void KvCache::verify_order(const LruList& unheld) const {
  std::vector<bool> passed(nodes_.size(), false);
  for (BlockId block = unheld.front(); block != unheld.end(); block = unheld.after(block)) {
    const BlockId parent = index_.parent(block);
    BLENDSERVE_ASSERT(parent == kNoBlock || !passed[static_cast<std::size_t>(parent)]);
    passed[static_cast<std::size_t>(block)] = true;
  }
}

void KvCache::verify_node(BlockId block) const {
  BLENDSERVE_ASSERT(index_.find(index_.key(block)) == block);
  const BlockId parent = index_.parent(block);
  if (state(block) == BlockState::kPending) {
    BLENDSERVE_ASSERT(pool_.num_holders(block) > 0 && owner(block) != kNoRequest);
  }
  if (parent == kNoBlock) return;
  BLENDSERVE_ASSERT(state(parent) != BlockState::kPrivate);
  if (state(parent) == BlockState::kPending) BLENDSERVE_ASSERT(state(block) == BlockState::kPending);
  if (pool_.num_holders(block) > 0) BLENDSERVE_ASSERT(pool_.num_holders(parent) > 0);
}

std::string KvCache::to_string() const {
  struct Visit {
    BlockId block;
    std::size_t depth;
  };
  std::vector<std::vector<BlockId>> children(nodes_.size() + 1);
  for (BlockId block = 0; block < num_blocks(); ++block) {
    if (state(block) == BlockState::kPrivate) continue;
    const BlockId parent = index_.parent(block);
    children[parent == kNoBlock ? nodes_.size() : static_cast<std::size_t>(parent)].push_back(block);
  }
  std::ostringstream out;
  std::vector<Visit> stack;
  const auto push_children = [&](std::size_t of, std::size_t depth) {
    for (auto child = children[of].rbegin(); child != children[of].rend(); ++child) stack.push_back({*child, depth});
  };
  push_children(nodes_.size(), 0);
  while (!stack.empty()) {
    const Visit visit = stack.back();
    stack.pop_back();
    out << std::string(2 * visit.depth, ' ') << "block " << visit.block << ": ";
    if (state(visit.block) == BlockState::kPending) {
      out << "pending for request " << owner(visit.block);
    } else {
      out << "computed";
    }
    out << ", " << pool_.num_holders(visit.block) << " holders, tokens";
    for (const Token token : index_.tokens(visit.block)) out << ' ' << token;
    out << '\n';
    push_children(static_cast<std::size_t>(visit.block), visit.depth + 1);
  }
  return out.str();
}

}  // namespace blendserve
