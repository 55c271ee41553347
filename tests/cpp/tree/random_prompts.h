#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "base/ids.h"
#include "base/rng.h"

namespace blendserve {

using Prompts = std::vector<std::vector<Token>>;

// Prompts that share much: few different tokens, many prefixes of others, duplicates, some of them empty.
inline Prompts random_prompts(std::uint64_t seed, int count, int max_len, int vocabulary) {
  Prompts prompts;
  std::uint64_t counter = 0;
  const auto draw = [&](std::int64_t below) {
    return static_cast<std::int64_t>(random_uniform(seed, counter++) * static_cast<double>(below));
  };
  for (int i = 0; i < count; ++i) {
    std::vector<Token> prompt;
    if (i > 0 && draw(3) == 0) {
      prompt = prompts[static_cast<std::size_t>(draw(i))];
      prompt.resize(static_cast<std::size_t>(draw(static_cast<std::int64_t>(prompt.size()) + 1)));
    }
    const std::int64_t more = draw(max_len + 1);
    for (std::int64_t j = 0; j < more; ++j) prompt.push_back(static_cast<Token>(draw(vocabulary)));
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

// The slow, obvious reference: one node a token.
struct NaiveTrie {
  struct Node {
    std::map<Token, int> children;
    bool ends_prompt = false;
  };
  std::vector<Node> nodes{1};

  explicit NaiveTrie(const Prompts& prompts) {
    for (const auto& prompt : prompts) {
      std::size_t at = 0;
      for (const Token token : prompt) {
        const auto [child, is_new] = nodes[at].children.try_emplace(token, static_cast<int>(nodes.size()));
        const auto next = static_cast<std::size_t>(child->second);
        if (is_new) nodes.emplace_back();
        at = next;
      }
      nodes[at].ends_prompt = true;
    }
  }

  std::int64_t num_tokens() const { return static_cast<std::int64_t>(nodes.size()) - 1; }
  // Nodes that remain when chains are compressed: the root, and where prompts part or end.
  std::int64_t num_compressed_nodes() const {
    std::int64_t count = 1;
    for (std::size_t i = 1; i < nodes.size(); ++i) count += nodes[i].ends_prompt || nodes[i].children.size() > 1;
    return count;
  }
};

}  // namespace blendserve
