#include "tree/merge_orders.h"

#include "base/token_match.h"

namespace blendserve {
namespace {

// What is left of one order. `lcp` is what its head has in common with the last prompt of the merged order.
struct Source {
  const PromptOrder& order;
  std::size_t next = 0;
  std::int32_t lcp = 0;

  bool is_empty() const { return next == order.rows.size(); }
  std::int32_t row() const { return order.rows[next]; }

  void move_head_to(PromptOrder& merged) {
    merged.rows.push_back(row());
    merged.lcp.push_back(lcp);
    if (++next < order.rows.size()) lcp = order.lcp[next];
  }
};

}  // namespace

PromptOrder merge_orders(const PromptOrder& a, const PromptOrder& b,
                         const std::function<std::span<const Token>(std::int32_t row)>& prompt) {
  PromptOrder merged;
  merged.rows.reserve(a.rows.size() + b.rows.size());
  merged.lcp.reserve(a.rows.size() + b.rows.size());
  Source left{a};
  Source right{b};
  while (!left.is_empty() && !right.is_empty()) {
    if (left.lcp != right.lcp) {
      (left.lcp > right.lcp ? left : right).move_head_to(merged);
      continue;
    }
    const auto common = static_cast<std::size_t>(left.lcp);
    const auto left_rest = prompt(left.row()).subspan(common);
    const auto right_rest = prompt(right.row()).subspan(common);
    const auto more = static_cast<std::size_t>(common_prefix_len(left_rest, right_rest));
    const bool left_first =
        more == left_rest.size() || (more < right_rest.size() && left_rest[more] < right_rest[more]);
    (left_first ? left : right).move_head_to(merged);
    (left_first ? right : left).lcp = static_cast<std::int32_t>(common + more);
  }
  while (!left.is_empty()) left.move_head_to(merged);
  while (!right.is_empty()) right.move_head_to(merged);
  return merged;
}

}  // namespace blendserve
