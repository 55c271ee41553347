#include "tree/sort_prompts.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <numeric>
#include <utility>

#include "base/huge_pages.h"
#include "base/token_match.h"
#include "tree/sort_keys.h"

namespace blendserve {
namespace {

// Prompts rows[begin, end), which have at least `depth` tokens in common. Rows are ascending within a group.
struct Group {
  std::int32_t begin = 0;
  std::int32_t end = 0;
  std::int32_t depth = 0;

  std::int32_t size() const { return end - begin; }
};

constexpr int kRowBits = 31;
constexpr std::int32_t kScanTask = 4096;  // prompts of one task of a parallel loop
constexpr std::int32_t kPrefetchDistance = 8;
constexpr std::int32_t kMinParallel = 4 * kScanTask;

class PromptSorter {
 public:
  PromptSorter(const Workload& workload, ThreadPool& pool) : workload_(workload), pool_(pool) {
    const auto size = static_cast<std::size_t>(workload.size());
    resize_huge(keys_, size);
    resize_huge(scratch_, size);
    resize_huge(order_.rows, size);
    resize_huge(order_.lcp, size);
    std::iota(order_.rows.begin(), order_.rows.end(), 0);
  }

  PromptOrder sort() && {
    std::vector<Group> small = split_large_groups();
    sort_in_parallel(small);
    return std::move(order_);
  }

 private:
  std::span<const Token> rest(std::int32_t row, std::int32_t depth) const {
    return workload_.prompt(row).subspan(static_cast<std::size_t>(depth));
  }

  // Threads share the work within a large group; the small groups that remain are returned.
  std::vector<Group> split_large_groups() {
    const auto size = static_cast<std::int32_t>(order_.rows.size());
    const std::int32_t limit = std::max(kMinParallel, size / (8 * pool_.num_threads()));
    std::vector<Group> large{{0, size, 0}};
    std::vector<Group> small;
    std::vector<Group> parts;
    if (size < 2) return small;
    while (!large.empty()) {
      const Group group = large.back();
      large.pop_back();
      parts.clear();
      split(group, parts, pool_.num_threads() > 1);
      for (const Group& part : parts) (part.size() > limit ? large : small).push_back(part);
    }
    return small;
  }

  void sort_in_parallel(std::vector<Group>& groups) {
    std::ranges::sort(groups, {}, &Group::begin);
    std::vector<std::size_t> task_begins{0};
    std::int32_t task_size = 0;
    for (std::size_t i = 0; i < groups.size(); ++i) {
      task_size += groups[i].size();
      if (task_size >= kScanTask || i + 1 == groups.size()) {
        task_begins.push_back(i + 1);
        task_size = 0;
      }
    }
    pool_.parallel_for(static_cast<std::int64_t>(task_begins.size()) - 1, [&](std::int64_t task) {
      const auto first = groups.begin() + static_cast<std::ptrdiff_t>(task_begins[static_cast<std::size_t>(task)]);
      const auto last = groups.begin() + static_cast<std::ptrdiff_t>(task_begins[static_cast<std::size_t>(task) + 1]);
      sort_groups({first, last});
    });
  }

  void sort_groups(std::vector<Group> groups) {
    while (!groups.empty()) {
      const Group group = groups.back();
      groups.pop_back();
      if (group.size() == 2) {
        sort_pair(group);
      } else {
        split(group, groups, false);
      }
    }
  }

  void sort_pair(const Group& group) {
    std::int32_t* rows = &order_.rows[static_cast<std::size_t>(group.begin)];
    const auto a = rest(rows[0], group.depth);
    const auto b = rest(rows[1], group.depth);
    const auto common = static_cast<std::size_t>(common_prefix_len(a, b));
    const bool b_is_first = common < a.size() && (common == b.size() || b[common] < a[common]);
    if (b_is_first) std::swap(rows[0], rows[1]);
    order_.lcp[static_cast<std::size_t>(group.begin) + 1] = group.depth + static_cast<std::int32_t>(common);
  }

  // Orders the group by the token after its common prefix and appends the parts that still need an order.
  void split(const Group& group, std::vector<Group>& parts, bool in_parallel) {
    const std::int32_t depth = common_depth(group, in_parallel);
    const auto begin = static_cast<std::size_t>(group.begin);
    const auto size = static_cast<std::size_t>(group.size());
    const auto keys = std::span(keys_).subspan(begin, size);
    for_each_task(group, in_parallel, [&](std::int32_t first, std::int32_t last) {
      for (std::int32_t i = first; i < last; ++i) {
        prefetch(i + kPrefetchDistance, last, depth);
        keys_[static_cast<std::size_t>(i)] = key_of(row_at(i), depth);
      }
    });
    sort_keys(keys, std::span(scratch_).subspan(begin, size), kRowBits);
    constexpr std::uint64_t row_mask = (std::uint64_t{1} << kRowBits) - 1;
    std::int32_t part_begin = group.begin;
    for (std::int32_t i = group.begin; i < group.end; ++i) {
      const auto index = static_cast<std::size_t>(i);
      order_.rows[index] = static_cast<std::int32_t>(keys_[index] & row_mask);
      if (i > group.begin) order_.lcp[index] = depth;
      const bool is_last = i + 1 == group.end || (keys_[index] >> kRowBits) != (keys_[index + 1] >> kRowBits);
      if (!is_last) continue;
      const bool is_ended = (keys_[index] >> kRowBits) == 0;
      if (!is_ended && i > part_begin) parts.push_back({part_begin, i + 1, depth + 1});
      part_begin = i + 1;
    }
  }

  std::int32_t row_at(std::int32_t position) const { return order_.rows[static_cast<std::size_t>(position)]; }

  // Prompts lie far apart: the beginning of one that is needed soon is fetched while others are read.
  void prefetch(std::int32_t position, std::int32_t end, std::int32_t depth) const {
    if (position < end) __builtin_prefetch(rest(row_at(position), depth).data());
  }

  // Row in the low bits, above it the token at `depth` as an unsigned number in the tokens' order, 0 where the prompt
  // has ended.
  std::uint64_t key_of(std::int32_t row, std::int32_t depth) const {
    const auto tokens = rest(row, depth);
    if (tokens.empty()) return static_cast<std::uint64_t>(row);
    const std::int64_t rank = std::int64_t{tokens.front()} - std::numeric_limits<Token>::min() + 1;
    return static_cast<std::uint64_t>(rank) << kRowBits | static_cast<std::uint64_t>(row);
  }

  // Tokens that all prompts of the group have in common.
  std::int32_t common_depth(const Group& group, bool in_parallel) const {
    const auto first_rest = rest(row_at(group.begin), group.depth);
    std::atomic<std::int64_t> common = static_cast<std::int64_t>(first_rest.size());
    for_each_task(group, in_parallel, [&](std::int32_t first, std::int32_t last) {
      std::int64_t task_common = common.load(std::memory_order_relaxed);
      for (std::int32_t i = first; i < last && task_common > 0; ++i) {
        prefetch(i + kPrefetchDistance, last, group.depth);
        const auto candidate = first_rest.first(static_cast<std::size_t>(task_common));
        task_common = common_prefix_len(candidate, rest(row_at(i), group.depth));
      }
      std::int64_t known = common.load(std::memory_order_relaxed);
      while (task_common < known && !common.compare_exchange_weak(known, task_common, std::memory_order_relaxed)) {
      }
    });
    return group.depth + static_cast<std::int32_t>(common.load());
  }

  template <typename Run>
  void for_each_task(const Group& group, bool in_parallel, const Run& run) const {
    if (!in_parallel || group.size() <= kScanTask) {
      run(group.begin, group.end);
      return;
    }
    const std::int64_t num_tasks = (group.size() + kScanTask - 1) / kScanTask;
    pool_.parallel_for(num_tasks, [&](std::int64_t task) {
      const auto first = static_cast<std::int32_t>(group.begin + task * kScanTask);
      run(first, std::min(first + kScanTask, group.end));
    });
  }

  const Workload& workload_;
  ThreadPool& pool_;
  std::vector<std::uint64_t> keys_;
  std::vector<std::uint64_t> scratch_;
  PromptOrder order_;
};

}  // namespace

PromptOrder sort_prompts(const Workload& workload, ThreadPool& pool) { return PromptSorter(workload, pool).sort(); }

}  // namespace blendserve
