#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/cpu/cache_lines.h"

namespace blendserve::cpu {

// Tasks that are bound by memory, to be run beside products that are bound by arithmetic. A thread that multiplies
// fetches what its next tasks read into its L2 cache, so evenly that all are read when the products end, and runs them
// between two blocks of a panel.
class MemoryTasks {
 public:
  struct Work {
    std::function<void(std::int64_t task)> run;
    // Appends what a task reads to `pieces`.
    std::function<void(std::int64_t task, std::vector<const std::byte*>& pieces)> list_memory;
    std::int64_t num_tasks = 0;
    std::int64_t num_bytes = 0;  // that all tasks read
  };

  // num_products: multiply-adds of all products they will run beside.
  MemoryTasks(Work work, std::int64_t num_products, int num_threads);

  // Appends to `pieces` what to fetch during the next num_products multiply-adds. A place, less than the number of
  // threads, is one thread's at a time.
  void list_due(std::int64_t place, std::int64_t num_products, std::vector<const std::byte*>& pieces);

  // Runs the tasks of a place whose memory has been listed to the end.
  void run_fetched(std::int64_t place);

  // Runs what is left. To be called once, when the products have ended.
  void finish(ThreadPool& pool);

 private:
  struct Claimed {
    std::int64_t task;
    std::size_t end;  // of its pieces
  };
  // A thread's tasks that were not run yet, oldest first.
  struct alignas(64) Place {
    std::vector<Claimed> tasks;
    std::vector<const std::byte*> pieces;  // that they read
    std::size_t num_listed = 0;            // pieces that list_due() has given out
    double num_due = 0.0;                  // pieces, beyond those
  };

  bool claim(Place& place);

  Work work_;
  double pieces_per_product_;
  std::atomic<std::int64_t> next_{0};
  std::vector<Place> places_;
};

}  // namespace blendserve::cpu
