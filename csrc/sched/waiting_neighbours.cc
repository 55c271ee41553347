#include "sched/waiting_neighbours.h"

#include <string>

#include "base/error.h"

namespace blendserve {

WaitingNeighbours::WaitingNeighbours(std::span<const RequestId> tree_order)
    : order_(tree_order.begin(), tree_order.end()),
      ranks_(tree_order.size(), IndexSet::kNone),
      waiting_(static_cast<std::int32_t>(tree_order.size())) {
  for (std::size_t i = 0; i < order_.size(); ++i) {
    if (!knows(order_[i]) || rank(order_[i]) != IndexSet::kNone) {
      throw InvalidInput("tree_order has " + std::to_string(order_[i]) + " at " + std::to_string(i) +
                         "; it must hold every id from 0 to " + std::to_string(order_.size() - 1) + " once");
    }
    ranks_[static_cast<std::size_t>(order_[i])] = static_cast<std::int32_t>(i);
  }
}

std::array<RequestId, 2> WaitingNeighbours::around(RequestId id) const {
  return {at(waiting_.previous(rank(id))), at(waiting_.next(rank(id)))};
}

}  // namespace blendserve
