#include "tree/prefix_tree.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <numeric>

#include "base/error.h"
#include "tree/random_prompts.h"

using namespace blendserve;

namespace {

PrefixTree tree_of(const Prompts& prompts, int num_threads = 1) {
  ThreadPool pool(num_threads);
  return PrefixTree::build(Workload::from_prompts(prompts), pool);
}

std::vector<std::int32_t> rows_in_token_order(const Prompts& prompts) {
  std::vector<std::int32_t> rows(prompts.size());
  std::iota(rows.begin(), rows.end(), 0);
  std::ranges::stable_sort(rows, [&](std::int32_t a, std::int32_t b) {
    return prompts[static_cast<std::size_t>(a)] < prompts[static_cast<std::size_t>(b)];
  });
  return rows;
}

bool same_layout(const TreeLayout& a, const TreeLayout& b) {
  const auto same_node = [](const TreeNode& x, const TreeNode& y) {
    return x.parent == y.parent && x.begin == y.begin && x.end == y.end && x.depth == y.depth;
  };
  return a.rows == b.rows && a.lcp == b.lcp && a.leaf_parents == b.leaf_parents &&
         std::ranges::equal(a.nodes, b.nodes, same_node);
}

}  // namespace

TEST_CASE("a small tree has the segments that a person would draw") {
  const auto tree = tree_of({{1, 2, 3, 4}, {9}, {1, 2, 3, 5, 6}, {1, 7}, {1, 2, 3}});
  CHECK(tree.layout().rows == std::vector<std::int32_t>{4, 0, 2, 3, 1});
  CHECK(tree.layout().lcp == std::vector<std::int32_t>{0, 3, 3, 1, 0});
  CHECK(tree.num_unique_tokens() == 8);
  CHECK(tree.num_prompt_tokens() == 15);
  CHECK(tree.num_nodes() == 7);  // the root, 1, 1 2 3, and four ends that are no inner node
  CHECK(tree.to_string(20) ==
        "[0, 0) 5 requests\n"
        "  [0, 1) 4 requests: 1\n"
        "    [1, 3) 3 requests: 2 3\n"
        "      [3, 3) request 4\n"
        "      [3, 4) request 0: 4\n"
        "      [3, 5) request 2: 5 6\n"
        "    [1, 2) request 3: 7\n"
        "  [0, 1) request 1: 9\n");
  CHECK(tree.to_string(2) == "[0, 0) 5 requests\n  [0, 1) 4 requests: 1\n... 6 more\n");
  tree.verify();
}

TEST_CASE("a tree of nothing, of one request, of equal and of empty prompts") {
  for (const Prompts& prompts : {Prompts{}, Prompts{{}}, Prompts{{5, 6}}, Prompts{{5}, {5}, {5}}, Prompts{{}, {}}}) {
    const auto tree = tree_of(prompts);
    tree.verify();
    const NaiveTrie trie(prompts);
    CHECK(tree.num_unique_tokens() == trie.num_tokens());
    CHECK(tree.num_nodes() == trie.num_compressed_nodes());
    CHECK(tree.layout().rows == rows_in_token_order(prompts));
  }
  CHECK(tree_of({}).sharing_ratio() == 0.0);
  CHECK(tree_of({{}, {}}).sharing_ratio() == 0.0);
  CHECK(tree_of({{5, 6}, {5, 6}}).sharing_ratio() == 0.5);
}

TEST_CASE("token order counts negative ids as less than others") {
  CHECK(tree_of({{3}, {-1}, {INT32_MAX}, {INT32_MIN}, {0}}).layout().rows == std::vector<std::int32_t>{3, 1, 4, 0, 2});
}

TEST_CASE("random trees agree with a naive trie and with plain sorting, for every number of threads") {
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    const auto prompts = random_prompts(seed, static_cast<int>(seed * 7), seed % 2 ? 4 : 60, seed % 3 ? 2 : 50);
    const auto tree = tree_of(prompts);
    tree.verify();
    const NaiveTrie trie(prompts);
    CHECK(tree.num_unique_tokens() == trie.num_tokens());
    CHECK(tree.num_nodes() == trie.num_compressed_nodes());
    CHECK(tree.layout().rows == rows_in_token_order(prompts));
  }
}

TEST_CASE("large groups are sorted by several threads to the same tree") {
  Prompts prompts = random_prompts(1, 60'000, 3, 3);
  for (std::size_t i = 0; i < prompts.size(); i += 2) prompts[i].insert(prompts[i].begin(), {7, 7, 7, 7, 7});
  const auto one = tree_of(prompts, 1);
  one.verify();
  CHECK(one.layout().rows == rows_in_token_order(prompts));
  CHECK(one.num_unique_tokens() == NaiveTrie(prompts).num_tokens());
  CHECK(same_layout(one.layout(), tree_of(prompts, 2).layout()));
  CHECK(same_layout(one.layout(), tree_of(prompts, 3).layout()));
}

TEST_CASE("a tree that grows by windows is the tree that is built at once") {
  ThreadPool pool(1);
  for (std::uint64_t seed = 0; seed < 30; ++seed) {
    const auto prompts = random_prompts(seed, 90, seed % 2 ? 3 : 30, 3);
    const auto part = [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
      return Workload::from_prompts({prompts.begin() + begin, prompts.begin() + end});
    };
    auto grown = PrefixTree::build(part(0, 40), pool);
    grown.extend(part(40, 40), pool);
    grown.extend(part(40, 41), pool);
    grown.extend(part(41, 90), pool);
    grown.verify();
    const auto whole = tree_of(prompts);
    CHECK(same_layout(grown.layout(), whole.layout()));
    CHECK(grown.num_unique_tokens() == whole.num_unique_tokens());
    CHECK(grown.num_nodes() == whole.num_nodes());
  }
}

TEST_CASE("a layout cut between neighbours becomes two trees under the root") {
  const auto layout = TreeLayout::from_lcp({0, 1, 2, 3}, {0, 4, 0, 4});
  layout.verify();
  REQUIRE(layout.nodes.size() == 3);
  CHECK(layout.node(0).begin == 0);
  CHECK(layout.node(0).end == 2);
  CHECK(layout.node(1).begin == 2);
  CHECK(layout.node(1).parent == layout.root());
}
