#include "base/thread_pool.h"

#ifdef __linux__
#include <sched.h>
#endif

#include <algorithm>
#include <string>

#include "base/error.h"

namespace blendserve {

namespace {

constexpr int kMaxThreads = 1024;

// Loops of a model follow each other within microseconds; to wake a thread for the next takes longer than many of them.
// Some 50 microseconds of looking cost others on the machine little.
constexpr int kSpins = 1000;

template <class Done>
void spin_until(const Done& done, int num_spins) {
  for (int i = 0; i < num_spins && !done(); ++i) {
#ifdef __x86_64__
    __builtin_ia32_pause();
#endif
  }
}

void check_num_threads(int num_threads) {
  if (num_threads < 1) {
    throw InvalidInput("num_threads is " + std::to_string(num_threads) + "; it must be 1 or more");
  }
  if (num_threads > kMaxThreads) {
    throw InvalidInput("num_threads is " + std::to_string(num_threads) + "; it must be at most " +
                       std::to_string(kMaxThreads));
  }
}

}  // namespace

ThreadPool::ThreadPool(int num_threads) {
  check_num_threads(num_threads);
  start(num_threads);
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::resize(int num_threads) {
  const std::lock_guard call(call_mutex_);
  check_num_threads(num_threads);
  stop();
  start(num_threads);
}

void ThreadPool::start(int num_threads) {
  num_threads_.store(1, std::memory_order_relaxed);
  num_spins_ = num_threads <= num_usable_cpus() ? kSpins : 0;
  try {
    for (int i = 1; i < num_threads; ++i) {
      workers_.emplace_back([this] { wait_for_loops(); });
    }
  } catch (...) {  // the system has no more threads: those that started must not go down with the pool
    stop();
    throw;
  }
  num_threads_.store(num_threads, std::memory_order_relaxed);
}

void ThreadPool::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  num_signals_.fetch_add(1);
  num_signals_.notify_all();
  for (std::thread& worker : workers_) {
    worker.join();
  }
  workers_.clear();
  stopping_ = false;
}

void ThreadPool::parallel_for(std::int64_t num_tasks, const std::function<void(std::int64_t)>& run) {
  const std::lock_guard call(call_mutex_);
  Loop loop{.run = run, .num_tasks = num_tasks};
  const bool shared = num_tasks > 1 && !workers_.empty();
  if (shared) {
    {
      const std::lock_guard lock(mutex_);
      loop_ = &loop;
    }
    num_signals_.fetch_add(1);
    num_signals_.notify_all();
  }
  run_tasks(loop);
  if (shared) {
    {
      const std::lock_guard lock(mutex_);
      loop_ = nullptr;
    }
    const auto nobody_helps = [&] { return loop.num_helping == 0; };
    spin_until(nobody_helps, num_spins_);
    std::unique_lock lock(mutex_);
    helpers_done_.wait(lock, nobody_helps);
  }
  if (loop.error) {
    std::rethrow_exception(loop.error);
  }
}

void ThreadPool::run_tasks(Loop& loop) {
  try {
    for (std::int64_t task; (task = loop.next.fetch_add(1, std::memory_order_relaxed)) < loop.num_tasks;) {
      loop.run(task);
    }
  } catch (...) {
    loop.next.store(loop.num_tasks, std::memory_order_relaxed);
    const std::lock_guard lock(mutex_);
    if (!loop.error) {
      loop.error = std::current_exception();
    }
  }
}

void ThreadPool::wait_for_loops() {
  while (true) {
    const std::uint32_t seen = num_signals_.load();
    Loop* loop = nullptr;
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) {
        return;
      }
      loop = loop_;
      if (loop != nullptr) {
        ++loop->num_helping;
      }
    }
    if (loop != nullptr) {
      run_tasks(*loop);
      const std::lock_guard lock(mutex_);
      --loop->num_helping;
      helpers_done_.notify_one();
    }
    spin_until([&] { return num_signals_.load() != seen; }, num_spins_);
    num_signals_.wait(seen);
  }
}

int num_usable_cpus() {
#ifdef __linux__
  cpu_set_t cpus;
  if (sched_getaffinity(0, sizeof(cpus), &cpus) == 0) {
    return std::max(1, CPU_COUNT(&cpus));
  }
#endif
  return std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, kMaxThreads);
}

int threads_wanted(int num_threads) {
  if (num_threads < 0) {
    throw InvalidInput("num_threads is " + std::to_string(num_threads) + "; it must be 0 (all CPUs) or more");
  }
  return num_threads == 0 ? num_usable_cpus() : num_threads;
}

ThreadPool& default_thread_pool() {
  static ThreadPool pool(num_usable_cpus());
  return pool;
}

}  // namespace blendserve
