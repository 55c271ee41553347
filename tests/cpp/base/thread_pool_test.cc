#include "base/thread_pool.h"

#include <catch2/catch.hpp>
#include <set>
#include <stdexcept>

#include "base/error.h"

using namespace blendserve;

TEST_CASE("every task runs exactly once, whatever the number of threads and tasks") {
  for (const int num_threads : {1, 2, 5}) {
    ThreadPool pool(num_threads);
    CHECK(pool.num_threads() == num_threads);
    for (int loop = 0; loop < 200; ++loop) {
      const std::int64_t num_tasks = loop % 17;
      std::vector<std::atomic<int>> runs(static_cast<std::size_t>(num_tasks));
      pool.parallel_for(num_tasks, [&](std::int64_t task) { ++runs[static_cast<std::size_t>(task)]; });
      for (const auto& count : runs) {
        REQUIRE(count == 1);
      }
    }
  }
}

TEST_CASE("the caller and the workers share a loop") {
  ThreadPool pool(2);
  std::atomic<int> arrived{0};
  std::mutex mutex;
  std::set<std::thread::id> ids;
  pool.parallel_for(2, [&](std::int64_t) {
    {
      const std::lock_guard lock(mutex);
      ids.insert(std::this_thread::get_id());
    }
    ++arrived;
    while (arrived < 2) {
      std::this_thread::yield();
    }
  });
  CHECK(ids.size() == 2);
  CHECK(ids.count(std::this_thread::get_id()) == 1);
}

TEST_CASE("the exception of a task reaches the caller, and the pool goes on") {
  ThreadPool pool(3);
  const auto fail_at_5 = [](std::int64_t task) {
    if (task == 5) {
      throw std::out_of_range("five");
    }
  };
  CHECK_THROWS_AS(pool.parallel_for(100, fail_at_5), std::out_of_range);
  std::atomic<std::int64_t> sum{0};
  pool.parallel_for(10, [&](std::int64_t task) { sum += task; });
  CHECK(sum == 45);
}

TEST_CASE("a pool can be resized, but not to nothing") {
  ThreadPool pool(1);
  pool.resize(4);
  CHECK(pool.num_threads() == 4);
  CHECK_THROWS_WITH(pool.resize(0), "num_threads is 0; it must be 1 or more");
  CHECK_THROWS_WITH(pool.resize(1025), "num_threads is 1025; it must be at most 1024");
  CHECK(pool.num_threads() == 4);
  std::atomic<int> runs{0};
  pool.parallel_for(50, [&](std::int64_t) { ++runs; });
  CHECK(runs == 50);
  CHECK_THROWS_AS(ThreadPool(-1), InvalidInput);
}

TEST_CASE("two threads may use one pool at once") {
  ThreadPool pool(2);
  std::atomic<int> runs{0};
  const auto loops = [&] {
    for (int i = 0; i < 100; ++i) {
      pool.parallel_for(4, [&](std::int64_t) { ++runs; });
    }
  };
  std::thread other(loops);
  loops();
  other.join();
  CHECK(runs == 800);
}
