#include "plan/static_order.h"

#include <algorithm>
#include <compare>

#include "base/rng.h"

namespace blendserve {

bool RequestLess::operator()(const Request& a, const Request& b) const {
  switch (order_) {
    case StaticOrder::kFcfs:
      break;
    case StaticOrder::kRandom: {
      const auto key_a = random_bits(seed_, static_cast<std::uint64_t>(a.id));
      const auto key_b = random_bits(seed_, static_cast<std::uint64_t>(b.id));
      if (key_a != key_b) return key_a < key_b;
      break;
    }
    case StaticOrder::kDfs: {
      const auto difference =
          std::lexicographical_compare_three_way(a.prompt.begin(), a.prompt.end(), b.prompt.begin(), b.prompt.end());
      if (difference != 0) return difference < 0;
      break;
    }
  }
  return a.id < b.id;
}

}  // namespace blendserve
