#include "kv/kv_cache.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace blendserve {
namespace {

std::int32_t checked_block_size(std::int32_t block_size) {
  if (block_size < 1) throw InvalidInput("block_size is " + std::to_string(block_size) + "; it must be at least 1");
  return block_size;
}

BlockId parent_in(std::span<const BlockId> blocks, std::int32_t index) {
  return index == 0 ? kNoBlock : blocks[static_cast<std::size_t>(index) - 1];
}

// Spells the keys of a sequence's full blocks, one at a time: a key is valid until the next.
class KeyReader {
 public:
  KeyReader(const TokenView& tokens, std::span<Token> scratch) : tokens_(tokens), scratch_(scratch) {}

  BlockKey key(std::int32_t index, BlockId parent) {
    const auto block_size = static_cast<std::int32_t>(scratch_.size());
    return {parent, tokens_.slice(index * block_size, scratch_), tokens_.salt((index + 1) * block_size)};
  }

 private:
  const TokenView& tokens_;
  std::span<Token> scratch_;
};

}  // namespace

KvCache::KvCache(std::int64_t num_blocks, std::int32_t block_size)
    : block_size_(checked_block_size(block_size)),
      pool_(num_blocks),
      index_(num_blocks, block_size),
      dead_(num_blocks),
      live_(num_blocks),
      nodes_(static_cast<std::size_t>(num_blocks)),
      block_tokens_(static_cast<std::size_t>(block_size)) {}

KvCache KvCache::taken_over(KvCache& other) {
  if (other.num_available() != other.num_blocks()) {
    throw InvalidInput("a cache can't be taken over while requests hold " +
                       std::to_string(other.num_blocks() - other.num_available()) +
                       " of its blocks; finish or stop() them first");
  }
  KvCache cache = std::exchange(other, KvCache(other.num_blocks(), other.block_size()));
  other.num_evictions_ = std::exchange(cache.num_evictions_, 0);
  other.num_dead_blocks_ = std::exchange(cache.num_dead_blocks_, 0);
  other.has_evicted_ = std::exchange(cache.has_evicted_, false);
  return cache;
}

PrefixMatch KvCache::match(const TokenView& tokens, std::int32_t max_tokens) const {
  PrefixMatch match;
  KeyReader reader(tokens, block_tokens_);
  const std::int32_t num_full = std::min(max_tokens, tokens.shareable_len()) / block_size_;
  BlockId parent = kNoBlock;
  for (std::int32_t i = 0; i < num_full; ++i) {
    const BlockId block = index_.find(reader.key(i, parent));
    if (block == kNoBlock) break;
    match.blocks.push_back(block);
    if (pool_.num_holders(block) == 0) ++match.num_unheld;
    parent = block;
  }
  return match;
}

bool KvCache::is_pending(BlockId block, RequestId owner_id) const {
  return is_pending(block) && owner(block) == owner_id;
}

std::optional<BlockTable> KvCache::admit(RequestId owner, const PrefixMatch& match, const TokenView& tokens,
                                         std::int32_t live_len) {
  const auto num_new = num_blocks_for(tokens.size()) - static_cast<std::int32_t>(match.blocks.size());
  if (num_available() - match.num_unheld < num_new) return std::nullopt;
  BlockTable table(*this, owner);
  table.blocks_.reserve(match.blocks.size() + static_cast<std::size_t>(num_new));
  for (const BlockId block : match.blocks) {
    hold(block);
    table.blocks_.push_back(block);
  }
  table.num_in_tree_ = table.size();
  for (std::int32_t i = 0; i < num_new; ++i) table.blocks_.push_back(allocate());
  announce(table, tokens, live_len);
  return table;
}

bool KvCache::extend(BlockTable& table) {
  if (num_available() == 0) return false;
  table.blocks_.push_back(allocate());
  return true;
}

void KvCache::announce(BlockTable& table, const TokenView& tokens, std::int32_t live_len) {
  KeyReader reader(tokens, block_tokens_);
  const std::int32_t num_shared = std::min({tokens.size(), tokens.shareable_len(), live_len}) / block_size_;
  for (std::int32_t i = table.num_in_tree_; i < num_shared; ++i) {
    const BlockKey key = reader.key(i, parent_in(table.blocks_, i));
    const BlockId block = table.blocks_[static_cast<std::size_t>(i)];
    if (find_or_add_node(key, block, BlockState::kPending, table.owner_) != block) break;
    table.num_in_tree_ = i + 1;
  }
}

void KvCache::publish_next(BlockTable& table) {
  const BlockId block = table.blocks_[static_cast<std::size_t>(table.num_published_++)];
  if (is_pending(block, table.owner_)) node(block).state = BlockState::kComputed;
}

void KvCache::withdraw(BlockTable& table) {
  while (table.num_in_tree_ > 0) {
    const BlockId block = table.blocks_[static_cast<std::size_t>(table.num_in_tree_) - 1];
    if (!is_pending(block, table.owner_)) break;
    remove_node(block);
    --table.num_in_tree_;
  }
}

void KvCache::release(BlockTable& table, const TokenView& tokens, std::int32_t num_computed, std::int32_t live_len,
                      bool keeps_dead) {
  withdraw(table);
  const std::int32_t num_full = std::min(num_computed, tokens.shareable_len()) / block_size_;
  const std::int32_t num_live = std::min(num_full, live_len / block_size_);
  add_computed(table, tokens, keeps_dead ? num_full : num_live);
  give_back(table, num_live, num_full);
}

void KvCache::release(BlockTable& table) {
  withdraw(table);
  give_back(table, table.size(), table.size());
}

// Adds to the tree what the first num_blocks blocks of the table, all computed, miss there. Where another request has
// computed the same content meanwhile, the table takes that block and gives its own back.
void KvCache::add_computed(BlockTable& table, const TokenView& tokens, std::int32_t num_blocks) {
  KeyReader reader(tokens, block_tokens_);
  for (; table.num_in_tree_ < num_blocks; ++table.num_in_tree_) {
    const std::int32_t i = table.num_in_tree_;
    BlockId& block = table.blocks_[static_cast<std::size_t>(i)];
    const BlockKey key = reader.key(i, parent_in(table.blocks_, i));
    const BlockId cached = find_or_add_node(key, block, BlockState::kComputed, kNoRequest);
    if (cached == block) continue;
    if (state(cached) != BlockState::kComputed) return;
    hold(cached);
    release_block(block, /*is_live=*/true);
    block = cached;
  }
}

void KvCache::give_back(BlockTable& table, std::int32_t num_live, std::int32_t num_full) {
  for (std::int32_t i = table.size() - 1; i >= 0; --i) {
    const bool is_live = i < num_live;
    const bool is_unheld = release_block(table.blocks_[static_cast<std::size_t>(i)], is_live);
    if (is_unheld && !is_live && i < num_full) ++num_dead_blocks_;
  }
  table.blocks_.clear();
  table.num_in_tree_ = 0;
  table.num_published_ = 0;
}

void KvCache::hold(BlockId block) {
  if (pool_.num_holders(block) == 0) take_unheld(block);
  pool_.hold(block);
}

// True when nobody holds it any more.
bool KvCache::release_block(BlockId block, bool is_live) {
  if (!pool_.release(block)) return false;
  if (state(block) == BlockState::kPrivate) {
    pool_.recycle(block);
  } else {
    BLENDSERVE_ASSERT(state(block) == BlockState::kComputed);
    put_unheld(block, is_live);
  }
  return true;
}

BlockId KvCache::allocate() {
  if (pool_.num_free() == 0) {
    num_evictions_ += dead_.empty() ? 1 : 0;
    has_evicted_ = true;
    const BlockId evicted = (dead_.empty() ? live_ : dead_).front();
    take_unheld(evicted);
    remove_node(evicted);
    pool_.recycle(evicted);
  }
  return *pool_.allocate();
}

// A dead block that leads to a live one, of a request that was cancelled, stays with it.
void KvCache::put_unheld(BlockId block, bool is_live) {
  if (is_live || node(block).num_live_children > 0) {
    live_.push_back(block);
    if (std::int32_t* const count = live_children_of_parent(block)) ++*count;
  } else {
    dead_.push_back(block);
  }
}

void KvCache::take_unheld(BlockId block) {
  if (dead_.contains(block)) {
    dead_.erase(block);
  } else {
    live_.erase(block);
    if (std::int32_t* const count = live_children_of_parent(block)) --*count;
  }
}

std::int32_t* KvCache::live_children_of_parent(BlockId block) {
  const BlockId parent = index_.parent(block);
  return parent == kNoBlock ? nullptr : &node(parent).num_live_children;
}

// The node with this key: `block`, unless there is one already.
BlockId KvCache::find_or_add_node(const BlockKey& key, BlockId block, BlockState new_state, RequestId owner_id) {
  const BlockId found = index_.find_or_insert(key, block);
  if (found != block) return found;
  node(block).state = new_state;
  node(block).owner = owner_id;
  if (key.parent != kNoBlock) ++node(key.parent).num_children;
  return block;
}

void KvCache::remove_node(BlockId block) {
  BLENDSERVE_ASSERT(node(block).num_children == 0);
  const BlockId parent = index_.parent(block);
  index_.erase(block);
  node(block).state = BlockState::kPrivate;
  if (parent != kNoBlock) --node(parent).num_children;
}

BlockTable::~BlockTable() {
  if (cache_ != nullptr) cache_->release(*this);
}

}  // namespace blendserve
