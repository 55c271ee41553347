#include "kv/kv_cache.h"

#include <catch2/catch.hpp>

#include "base/error.h"

using namespace blendserve;

namespace {

TokenView view_of(const std::vector<Token>& tokens) { return {tokens, {}}; }

}  // namespace

TEST_CASE("a block goes from free to pending to computed, and outlives its request in the cache") {
  KvCache cache(4, 2);
  const std::vector<Token> tokens{1, 2, 3, 4, 5};
  {
    auto table = cache.admit(7, cache.match(view_of(tokens), 4), view_of(tokens));
    REQUIRE(table.has_value());
    CHECK(table->size() == 3);
    CHECK(cache.num_available() == 1);
    CHECK(cache.to_string() ==
          "block 0: pending for request 7, 1 holders, tokens 1 2\n"
          "  block 1: pending for request 7, 1 holders, tokens 3 4\n");
    cache.publish(*table, 3);
    CHECK(cache.to_string() ==
          "block 0: computed, 1 holders, tokens 1 2\n  block 1: pending for request 7, 1 holders, tokens 3 4\n");
    const BlockTable* held[] = {&*table};
    cache.verify(held);
  }
  CHECK(cache.num_available() == 4);
  CHECK(cache.to_string() == "block 0: computed, 0 holders, tokens 1 2\n");
  cache.verify({});
}

TEST_CASE("admission is all or nothing") {
  KvCache cache(4, 2);
  const std::vector<Token> tokens{1, 2, 3, 4, 5};
  const std::vector<Token> other{9, 9, 9, 9};
  const auto table = cache.admit(0, cache.match(view_of(tokens), 4), view_of(tokens));
  CHECK_FALSE(cache.admit(1, cache.match(view_of(other), 3), view_of(other)).has_value());
  CHECK(cache.num_available() == 1);
  const BlockTable* held[] = {&*table};
  cache.verify(held);
}

TEST_CASE("what nobody waits for is in the tree from the end of its request on") {
  KvCache cache(4, 2);
  const std::vector<Token> tokens{1, 2, 3, 4};
  auto table = cache.admit(0, {}, view_of(tokens), /*live_len=*/3);
  CHECK(cache.match(view_of(tokens), 4).blocks.size() == 1);
  cache.publish(*table, 4);
  CHECK(cache.match(view_of(tokens), 4).blocks.size() == 1);
  cache.release(*table, view_of(tokens), 4, /*live_len=*/2);
  CHECK(cache.match(view_of(tokens), 4).blocks.size() == 2);
  CHECK(cache.num_dead_blocks() == 1);
  CHECK(cache.num_available() == 4);
  cache.verify({});
}

TEST_CASE("what nobody waits for is free at once when nothing dead is kept") {
  KvCache cache(4, 2);
  const std::vector<Token> tokens{1, 2, 3, 4, 5, 6};
  auto table = cache.admit(0, {}, view_of(tokens), /*live_len=*/2);
  cache.publish(*table, 6);
  cache.release(*table, view_of(tokens), 6, /*live_len=*/4, /*keeps_dead=*/false);
  CHECK(cache.to_string() == "block 0: computed, 0 holders, tokens 1 2\n  block 1: computed, 0 holders, tokens 3 4\n");
  CHECK(cache.num_dead_blocks() == 1);
  cache.verify({});
}

TEST_CASE("only what is computed stays cached") {
  KvCache cache(4, 2);
  const std::vector<Token> tokens{1, 2, 3, 4, 5, 6};
  auto table = cache.admit(0, {}, view_of(tokens));
  cache.publish(*table, 3);
  cache.release(*table, view_of(tokens), 3);
  CHECK(cache.to_string() == "block 0: computed, 0 holders, tokens 1 2\n");
  cache.verify({});
}

TEST_CASE("a block computed twice is cached once") {
  KvCache cache(4, 2);
  const std::vector<Token> tokens{1, 2};
  auto first = cache.admit(0, {}, view_of({tokens[0]}));
  auto second = cache.admit(1, {}, view_of({tokens[0]}));
  cache.release(*first, view_of(tokens), 2);
  cache.release(*second, view_of(tokens), 2);
  CHECK(cache.to_string() == "block 0: computed, 0 holders, tokens 1 2\n");
  CHECK(cache.num_available() == 4);
  cache.verify({});
}

TEST_CASE("eviction takes leaves, the one released longest ago first") {
  KvCache cache(4, 1);
  const std::vector<Token> ab{1, 2};
  const std::vector<Token> ac{1, 3};
  for (const auto& tokens : {ab, ac}) {
    auto table = cache.admit(0, cache.match(view_of(tokens), 2), view_of(tokens));
    cache.publish(*table, 2);
  }
  const std::vector<Token> other{7, 8};
  const auto table = cache.admit(1, {}, view_of(other));
  CHECK(cache.num_evictions() == 1);
  CHECK(cache.match(view_of(ab), 2).blocks.size() == 1);
  CHECK(cache.match(view_of(ac), 2).blocks.size() == 2);
}

TEST_CASE("verify() finds a table it was not told of") {
  KvCache cache(2, 1);
  const std::vector<Token> tokens{1};
  const auto table = cache.admit(0, {}, view_of(tokens));
  CHECK_THROWS_AS(cache.verify({}), InternalError);
}

TEST_CASE("a cache needs blocks") {
  CHECK_THROWS_WITH(KvCache(0, 16), Catch::Matchers::Contains("num_blocks is 0"));
  CHECK_THROWS_WITH(KvCache(4, 0), Catch::Matchers::Contains("block_size is 0"));
}
