#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/thread_pool.h"
#include "request/workload.h"
#include "tree/tree_layout.h"

namespace blendserve {

// The prefix tree of all prompts: a compressed trie, built by sorting. Rows are requests, numbered in the order they
// came. The prompts are borrowed from the workloads. Reading is safe from several threads.
class PrefixTree {
 public:
  // Throws InvalidInput for more than 2^31 - 1 prompts, or a prompt of that many tokens.
  static PrefixTree build(Workload workload, ThreadPool& pool);

  // Adds the prompts of a new window as rows num_requests(), num_requests() + 1, … . Sorts them and merges them in: the
  // earlier prompts are not sorted again. Changes nothing when it throws.
  void extend(Workload workload, ThreadPool& pool);

  const TreeLayout& layout() const { return layout_; }  // children in the order of their tokens
  std::int32_t num_requests() const { return layout_.num_leaves(); }
  std::int32_t prompt_len(std::int32_t row) const { return prompt_lens_[static_cast<std::size_t>(row)]; }
  std::span<const std::int32_t> prompt_lens() const { return prompt_lens_; }
  std::span<const Token> prompt(std::int32_t row) const;
  const std::vector<Workload>& windows() const { return windows_; }

  // Nodes of the compressed trie: the root, every place where prompts part or end, once each.
  std::int64_t num_nodes() const { return num_nodes_; }
  std::int64_t num_prompt_tokens() const { return num_prompt_tokens_; }
  // Tokens of all segments together: what has to be computed if nothing is computed twice.
  std::int64_t num_unique_tokens() const { return num_unique_tokens_; }
  // 1 - unique tokens / prompt tokens; 0 without tokens.
  double sharing_ratio() const;

  // Throws InternalError unless order, prefix lengths, nodes and counts are right; compares all neighbouring prompts.
  void verify() const;
  // One segment a line, indented by depth, with its first tokens; at most `max_lines` lines.
  std::string to_string(std::int32_t max_lines) const;

 private:
  void count();

  std::vector<Workload> windows_;
  std::vector<std::int32_t> window_begins_;  // first row of each window
  std::vector<std::int32_t> prompt_lens_;    // by row
  TreeLayout layout_;
  std::int64_t num_nodes_ = 1;
  std::int64_t num_prompt_tokens_ = 0;
  std::int64_t num_unique_tokens_ = 0;
};

}  // namespace blendserve
