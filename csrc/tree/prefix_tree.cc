#include "tree/prefix_tree.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/error.h"
#include "base/huge_pages.h"
#include "base/token_match.h"
#include "tree/merge_orders.h"
#include "tree/sort_prompts.h"

namespace blendserve {
namespace {

constexpr std::int64_t kMaxInt32 = std::numeric_limits<std::int32_t>::max();

void check_size(std::int64_t num_requests, const Workload& workload) {
  if (num_requests + workload.size() > kMaxInt32) {
    throw InvalidInput("more than " + std::to_string(kMaxInt32) +
                       " prompts in one tree; plan the job in several parts");
  }
  for (std::int64_t row = 0; row < workload.size(); ++row) {
    if (static_cast<std::int64_t>(workload.prompt(row).size()) > kMaxInt32) {
      throw InvalidInput("prompt " + std::to_string(row) + " has " + std::to_string(workload.prompt(row).size()) +
                         " tokens; a prompt may have up to " + std::to_string(kMaxInt32));
    }
  }
}

}  // namespace

PrefixTree PrefixTree::build(Workload workload, ThreadPool& pool) {
  PrefixTree tree;
  tree.extend(std::move(workload), pool);
  return tree;
}

void PrefixTree::extend(Workload workload, ThreadPool& pool) {
  check_size(num_requests(), workload);
  const std::int32_t first_row = num_requests();
  PromptOrder order = sort_prompts(workload, pool);
  if (first_row > 0) {
    for (std::int32_t& row : order.rows) row += first_row;
    const auto prompt_of = [&](std::int32_t row) {
      return row < first_row ? prompt(row) : workload.prompt(row - first_row);
    };
    order = merge_orders({layout_.rows, layout_.lcp}, order, prompt_of);
  }
  TreeLayout layout = TreeLayout::from_lcp(std::move(order.rows), std::move(order.lcp));
  if (first_row == 0) reserve_huge(prompt_lens_, layout.rows.size());
  prompt_lens_.reserve(layout.rows.size());
  window_begins_.reserve(window_begins_.size() + 1);
  windows_.reserve(windows_.size() + 1);
  for (std::int64_t row = 0; row < workload.size(); ++row) {
    prompt_lens_.push_back(static_cast<std::int32_t>(workload.prompt(row).size()));
  }
  window_begins_.push_back(first_row);
  windows_.push_back(std::move(workload));
  layout_ = std::move(layout);
  count();
}

void PrefixTree::count() {
  num_nodes_ = static_cast<std::int64_t>(layout_.nodes.size());
  num_prompt_tokens_ = 0;
  num_unique_tokens_ = 0;
  for (std::int32_t leaf = 0; leaf < num_requests(); ++leaf) {
    const auto index = static_cast<std::size_t>(leaf);
    const std::int32_t len = prompt_len(layout_.rows[index]);
    if (len > layout_.leaf_parent_depth(leaf)) ++num_nodes_;
    num_prompt_tokens_ += len;
    num_unique_tokens_ += len - layout_.lcp[index];
  }
}

std::span<const Token> PrefixTree::prompt(std::int32_t row) const {
  const auto after = std::ranges::upper_bound(window_begins_, row);
  const auto window = static_cast<std::size_t>(after - window_begins_.begin()) - 1;
  return windows_[window].prompt(row - window_begins_[window]);
}

double PrefixTree::sharing_ratio() const {
  if (num_prompt_tokens_ == 0) return 0.0;
  return 1.0 - static_cast<double>(num_unique_tokens_) / static_cast<double>(num_prompt_tokens_);
}

void PrefixTree::verify() const {
  layout_.verify();
  BLENDSERVE_ASSERT(prompt_lens_.size() == layout_.rows.size());
  std::vector<bool> is_seen(layout_.rows.size(), false);
  for (std::size_t i = 0; i < layout_.rows.size(); ++i) {
    const std::int32_t row = layout_.rows[i];
    BLENDSERVE_ASSERT(0 <= row && row < num_requests() && !is_seen[static_cast<std::size_t>(row)]);
    is_seen[static_cast<std::size_t>(row)] = true;
    BLENDSERVE_ASSERT(static_cast<std::int64_t>(prompt(row).size()) == prompt_len(row));
    if (i == 0) continue;
    const std::int32_t before = layout_.rows[i - 1];
    const std::int64_t common = common_prefix_len(prompt(before), prompt(row));
    BLENDSERVE_ASSERT(layout_.lcp[i] == common);
    const bool is_ordered = common == prompt_len(before)
                                ? common < prompt_len(row) || before < row
                                : common < prompt_len(row) && prompt(before)[static_cast<std::size_t>(common)] <
                                                                  prompt(row)[static_cast<std::size_t>(common)];
    BLENDSERVE_ASSERT(is_ordered);
  }
}

}  // namespace blendserve
