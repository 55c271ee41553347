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
  // Cached blocks that were released when nobody was known to wait for them.
  std::int64_t num_dead_blocks() const { return num_dead_blocks_; }
  std::int32_t num_blocks_for(std::int32_t num_tokens) const { return (num_tokens + block_size_ - 1) / block_size_; }

  // Matches whole blocks within the first max_tokens tokens, as far as they may be shared; pending blocks count.
  PrefixMatch match(const TokenView& tokens, std::int32_t max_tokens) const;
  bool is_pending(BlockId block, RequestId owner) const;
  bool is_pending(BlockId block) const { return state(block) == BlockState::kPending; }
  RequestId owner(BlockId block) const { return node(block).owner; }

  // Holds the matched blocks, allocates the rest of what `tokens` need, and announces the full ones in the tree as
  // pending. Returns nothing, and changes nothing, when there are too few blocks.
  std::optional<BlockTable> admit(RequestId owner, const PrefixMatch& match, const TokenView& tokens);
  // One more private block at the end; false, and nothing changed, when there is none.
  bool extend(BlockTable& table);
  // The first num_computed tokens of the table's sequence are computed: its full blocks become readable. A block whose
  // content another request computed meanwhile is given back, and the table takes the one in the tree.
  void publish(BlockTable& table, const TokenView& tokens, std::int32_t num_computed);
  // Whether that is of any effect.
  bool has_unpublished(const BlockTable& table, std::int32_t num_computed) const {
    return (table.num_published_ + 1) * block_size_ <= num_computed && table.is_chain_open_;
  }
  // Takes what the table's owner announced and did not compute out of the tree again. Readers of these blocks, if any,
  // must be withdrawn first.
  void withdraw(BlockTable& table);
  // Gives all blocks back. What is computed and in the tree stays cached until evicted; what lies beyond the first
  // `live_len` tokens of the sequence is dead, and evicted before all that is not.
  void release(BlockTable& table, std::int32_t live_len = kAllLive);
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
  void release_block(BlockId block, bool is_live = true);
  BlockId allocate();
  void put_unheld(BlockId block, bool is_live);
  void take_unheld(BlockId block);
  std::int32_t* live_children_of_parent(BlockId block);
  BlockId find_or_add_node(const BlockKey& key, BlockId block, BlockState state, RequestId owner);
  void remove_node(BlockId block);
  void announce(BlockTable& table, const TokenView& tokens);
  void publish_private_block(BlockTable& table, const BlockKey& key);
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
};

}  // namespace blendserve
