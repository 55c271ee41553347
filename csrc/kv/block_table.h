#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/ids.h"

namespace blendserve {

class KvCache;

// The KV blocks one running request holds, in order of position. Move-only: the blocks go back when it is destroyed.
//
//   [0, num_in_tree)               nodes of the prefix tree, found there or announced there by this request
//   [num_in_tree, size)            private: what nobody is known to wait for, until it is released
//
// num_published <= num_in_tree of them are known to be computed.
class BlockTable {
 public:
  BlockTable() = default;
  BlockTable(KvCache& cache, RequestId owner) : cache_(&cache), owner_(owner) {}
  BlockTable(BlockTable&& other) noexcept { swap(other); }
  BlockTable& operator=(BlockTable&& other) noexcept {
    BlockTable(std::move(other)).swap(*this);
    return *this;
  }
  BlockTable(const BlockTable&) = delete;
  BlockTable& operator=(const BlockTable&) = delete;
  ~BlockTable();

  std::span<const BlockId> blocks() const { return blocks_; }
  std::int32_t size() const { return static_cast<std::int32_t>(blocks_.size()); }
  RequestId owner() const { return owner_; }
  // The ends of blocks(); the processor finds what lies between.
  void prefetch() const {
    __builtin_prefetch(blocks_.data());
    __builtin_prefetch(blocks_.data() + blocks_.size() - 1);
  }

 private:
  friend class KvCache;

  void swap(BlockTable& other) noexcept {
    std::swap(cache_, other.cache_);
    std::swap(owner_, other.owner_);
    std::swap(blocks_, other.blocks_);
    std::swap(num_in_tree_, other.num_in_tree_);
    std::swap(num_published_, other.num_published_);
  }

  KvCache* cache_ = nullptr;
  RequestId owner_ = kNoRequest;
  std::vector<BlockId> blocks_;
  std::int32_t num_in_tree_ = 0;
  std::int32_t num_published_ = 0;
};

}  // namespace blendserve
