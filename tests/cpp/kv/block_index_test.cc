#include "kv/block_index.h"

#include <catch2/catch.hpp>
#include <map>
#include <random>
#include <tuple>

using namespace blendserve;

TEST_CASE("block index agrees with a map under random inserts and erases") {
  constexpr std::int32_t kBlocks = 50;
  BlockIndex index(kBlocks, 2);
  std::map<std::tuple<BlockId, std::vector<Token>, std::uint64_t>, BlockId> reference;
  std::mt19937 rng(1);
  const auto uniform = [&](int high) { return std::uniform_int_distribution<int>(0, high)(rng); };
  std::vector<BlockId> unused;
  for (BlockId block = 0; block < kBlocks; ++block) unused.push_back(block);
  for (int round = 0; round < 20000; ++round) {
    const BlockId parent = uniform(5) - 1;
    const std::vector<Token> tokens{uniform(3), uniform(3)};
    const auto salt = static_cast<std::uint64_t>(uniform(1)) << 32;
    const auto known = reference.find({parent, tokens, salt});
    REQUIRE(index.find({parent, tokens, salt}) == (known == reference.end() ? kNoBlock : known->second));
    if (known != reference.end()) {
      if (!unused.empty()) REQUIRE(index.find_or_insert({parent, tokens, salt}, unused.back()) == known->second);
      index.erase(known->second);
      unused.push_back(known->second);
      reference.erase(known);
    } else if (!unused.empty()) {
      REQUIRE(index.find_or_insert({parent, tokens, salt}, unused.back()) == unused.back());
      reference[{parent, tokens, salt}] = unused.back();
      unused.pop_back();
    }
    if (round % 100 == 0) index.verify();
    REQUIRE(index.size() == static_cast<std::int64_t>(reference.size()));
  }
}
