#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/ids.h"
#include "base/index_set.h"

namespace blendserve {

// Which requests of a job known up front wait, in the order of its prefix tree: of all that wait, the one before and
// the one after a request share the longest prefix with it. So they tell what of its KV is still worth keeping.
class WaitingNeighbours {
 public:
  // `tree_order`: ids 0 to n - 1, in depth-first order of their prefix tree. Of later ids nothing is known.
  explicit WaitingNeighbours(std::span<const RequestId> tree_order);

  bool knows(RequestId id) const { return static_cast<std::size_t>(id) < ranks_.size(); }
  std::int64_t num_known() const { return std::ssize(ranks_); }
  bool empty() const { return waiting_.empty(); }
  void insert(RequestId id) { waiting_.insert(rank(id)); }
  void erase(RequestId id) { waiting_.erase(rank(id)); }

  // The waiting requests next to `id` in the tree; kNoRequest where there is none.
  std::array<RequestId, 2> around(RequestId id) const;

 private:
  std::int32_t rank(RequestId id) const { return ranks_[static_cast<std::size_t>(id)]; }
  RequestId at(std::int32_t rank) const {
    return rank == IndexSet::kNone ? kNoRequest : order_[static_cast<std::size_t>(rank)];
  }

  std::vector<RequestId> order_;
  std::vector<std::int32_t> ranks_;  // by id
  IndexSet waiting_;                 // ranks
};

}  // namespace blendserve
