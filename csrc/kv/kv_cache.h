#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/ids.h"
#include "kv/block_index.h"
#include "kv/block_pool.h"
#include "kv/block_table.h"
#include "kv/lru_list.h"
#include "request/token_view.h"

namespace blendserve {

// A block's place in the runtime prefix tree, whose nodes are full blocks.
enum class BlockState : std::uint8_t {
  kPrivate,   // not in the tree: free, or held by one request
  kPending,   // in the tree, but its owner still has to compute it
  kComputed,  // in the tree, readable by anyone
};

// The longest chain of blocks in the tree that spells the beginning of a sequence.
struct PrefixMatch {
  std::vector<BlockId> blocks;
  std::int64_t num_unheld = 0;  // of these, how many nobody holds: holding them makes them unavailable
};

// The paged KV cache's bookkeeping: which block holds what, for whom. Block pool, prefix tree and eviction in one
// place.
//
// Invariants, checked by verify(): who holds a node holds its ancestors; the parent of a computed node is computed, a
// pending node's descendants are pending; an unheld node is computed and stands on one of two LRU lists, of dead and of
// live blocks, and those of its descendants that are on the same list stand before it: eviction takes leaves only.
class KvCache {
 public:
  KvCache(std::int64_t num_blocks, std::int32_t block_size);

  // Whatever `other` has cached, which nobody may hold; counted from now on.
  static KvCache taken_over(KvCache& other);

  std::int64_t num_blocks() const { return pool_.num_blocks(); }
  std::int32_t block_size() const { return block_size_; }
  // Blocks that can be had now: free ones, and cached ones nobody holds.
  std::int64_t num_available() const { return pool_.num_free() + dead_.size() + live_.size(); }
  // Of blocks that may have been read again.
  std::int64_t num_evictions() const { return num_evictions_; }
  // Full, computed blocks that were released when nobody was known to wait for them.
  std::int64_t num_dead_blocks() const { return num_dead_blocks_; }
  // Whether a cached block, live or dead, had to go for another.
  bool has_evicted() const { return has_evicted_; }
  std::int32_t num_blocks_for(std::int32_t num_tokens) const { return (num_tokens + block_size_ - 1) / block_size_; }

  // Matches whole blocks within the first max_tokens tokens, as far as they may be shared; pending blocks count.
  PrefixMatch match(const TokenView& tokens, std::int32_t max_tokens) const;
  bool is_pending(BlockId block, RequestId owner) const;
  bool is_pending(BlockId block) const { return state(block) == BlockState::kPending; }
  RequestId owner(BlockId block) const { return node(block).owner; }

  // Holds the matched blocks, allocates the rest of what `tokens` need, and announces the full ones within the first
  // live_len tokens in the tree as pending. Returns nothing, and changes nothing, when there are too few blocks.
  std::optional<BlockTable> admit(RequestId owner, const PrefixMatch& match, const TokenView& tokens,
                                  std::int32_t live_len = kAllLive);
  // One more private block at the end; false, and nothing changed, when there is none.
  bool extend(BlockTable& table);
  // The first num_computed tokens of the table's sequence are computed: of its blocks that were announced the full ones
  // become readable.
  void publish(BlockTable& table, std::int32_t num_computed) {
    while (table.num_published_ < table.num_in_tree_ && (table.num_published_ + 1) * block_size_ <= num_computed) {
      publish_next(table);
    }
  }
  // Gives all blocks back, of whose sequence the first num_computed tokens are computed. The full blocks of these
  // within the first live_len tokens stay cached until evicted. Those behind are dead: evicted before all that is live
  // or, unless keeps_dead, free at once where they were not announced. What was announced and is not computed is taken
  // out of the tree; its readers, if any, must be released before.
  void release(BlockTable& table, const TokenView& tokens, std::int32_t num_computed, std::int32_t live_len = kAllLive,
               bool keeps_dead = true);
  // Likewise, but only what is in the tree already stays cached.
  void release(BlockTable& table);
  static constexpr std::int32_t kAllLive = INT32_MAX;

  // Throws InternalError unless every invariant holds and `tables` are exactly the holders of the held blocks.
  void verify(std::span<const BlockTable* const> tables) const;
  // The tree, one node a line: "block 3: computed, 2 holders, tokens 5 6 7 8".
  std::string to_string() const;

 private:
  // What is known of a block as a node of the tree.
  struct Node {
    RequestId owner = kNoRequest;        // of a pending block
    std::int32_t num_children = 0;       // in the tree
    std::int32_t num_live_children = 0;  // of these, on the list of live blocks
    BlockState state = BlockState::kPrivate;
  };

  Node& node(BlockId block) { return nodes_[static_cast<std::size_t>(block)]; }
  const Node& node(BlockId block) const { return nodes_[static_cast<std::size_t>(block)]; }
  BlockState state(BlockId block) const { return node(block).state; }
  bool is_unheld(BlockId block) const { return dead_.contains(block) || live_.contains(block); }
  void hold(BlockId block);
  bool release_block(BlockId block, bool is_live);
  BlockId allocate();
  void put_unheld(BlockId block, bool is_live);
  void take_unheld(BlockId block);
  std::int32_t* live_children_of_parent(BlockId block);
  BlockId find_or_add_node(const BlockKey& key, BlockId block, BlockState state, RequestId owner);
  void remove_node(BlockId block);
  void announce(BlockTable& table, const TokenView& tokens, std::int32_t live_len);
  void publish_next(BlockTable& table);
  void withdraw(BlockTable& table);
  void add_computed(BlockTable& table, const TokenView& tokens, std::int32_t num_blocks);
  void give_back(BlockTable& table, std::int32_t num_live, std::int32_t num_full);
  void verify_node(BlockId block) const;
  void verify_order(const LruList& unheld) const;

  std::int32_t block_size_;
  BlockPool pool_;
  BlockIndex index_;
  LruList dead_;
  LruList live_;
  std::vector<Node> nodes_;                  // by block
  mutable std::vector<Token> block_tokens_;  // of the key being spelled
  std::int64_t num_evictions_ = 0;
  std::int64_t num_dead_blocks_ = 0;
  bool has_evicted_ = false;
};

}  // namespace blendserve
