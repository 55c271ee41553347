#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace blendserve {

// A fixed set of threads that pick up the tasks of one loop at a time. The calling thread takes part, so a pool of one
// thread starts none. Calls from several threads run one after the other; a task must not call its own pool.
class ThreadPool {
 public:
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return num_threads_.load(std::memory_order_relaxed); }

  // Waits for a running loop to end. Throws InvalidInput unless num_threads >= 1.
  void resize(int num_threads);

  // Calls run(task) once for each task in [0, num_tasks), in any order, and returns when all are done. The first
  // exception of a task is thrown here, and tasks that had not started by then never run.
  void parallel_for(std::int64_t num_tasks, const std::function<void(std::int64_t)>& run);

 private:
  struct Loop {
    const std::function<void(std::int64_t)>& run;
    std::int64_t num_tasks;
    std::atomic<std::int64_t> next{0};
    std::exception_ptr error = nullptr;
    std::atomic<int> num_helping{0};
  };

  void start(int num_threads);
  void stop();
  void wait_for_loops();
  void run_tasks(Loop& loop);

  std::atomic<int> num_threads_{1};
  int num_spins_ = 0;  // looks for the next loop, or for the end of this one, before a thread sleeps
  std::vector<std::thread> workers_;
  std::mutex call_mutex_;  // held for a whole loop or resize

  std::mutex mutex_;  // guards loop_, stopping_, error of the loop, and changes of num_helping
  std::condition_variable helpers_done_;
  Loop* loop_ = nullptr;  // open for workers to join
  bool stopping_ = false;
  std::atomic<std::uint32_t> num_signals_{0};  // workers sleep until it changes
};

// CPUs this process may run on, at least 1 and at most what a pool may have.
int num_usable_cpus();

// `num_threads`, or num_usable_cpus() for 0. Throws InvalidInput for less than 0.
int threads_wanted(int num_threads);

// The pool of the process, made at first use with num_usable_cpus() threads.
ThreadPool& default_thread_pool();

}  // namespace blendserve
