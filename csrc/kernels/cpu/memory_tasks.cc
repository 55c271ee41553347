#include "kernels/cpu/memory_tasks.h"

#include <algorithm>
#include <utility>

namespace blendserve::cpu {

MemoryTasks::MemoryTasks(Work work, std::int64_t num_products, int num_threads)
    : work_(std::move(work)),
      pieces_per_product_(static_cast<double>(work_.num_bytes / kPieceBytes) /
                          static_cast<double>(std::max<std::int64_t>(1, num_products))),
      places_(static_cast<std::size_t>(num_threads)) {}

void MemoryTasks::list_due(std::int64_t at, std::int64_t num_products, std::vector<const std::byte*>& pieces) {
  Place& place = places_[static_cast<std::size_t>(at)];
  place.num_due += static_cast<double>(num_products) * pieces_per_product_;
  const auto num_wanted = static_cast<std::size_t>(place.num_due);
  while (place.pieces.size() < place.num_listed + num_wanted && claim(place)) {
  }
  const std::size_t num_pieces = std::min(num_wanted, place.pieces.size() - place.num_listed);
  const auto first = place.pieces.begin() + static_cast<std::ptrdiff_t>(place.num_listed);
  pieces.insert(pieces.end(), first, first + static_cast<std::ptrdiff_t>(num_pieces));
  place.num_listed += num_pieces;
  place.num_due -= static_cast<double>(num_pieces);
}

void MemoryTasks::run_fetched(std::int64_t at) {
  Place& place = places_[static_cast<std::size_t>(at)];
  std::size_t num_run = 0;
  for (; num_run < place.tasks.size() && place.tasks[num_run].end <= place.num_listed; ++num_run) {
    work_.run(place.tasks[num_run].task);
  }
  if (num_run == 0) {
    return;
  }
  const std::size_t num_pieces = place.tasks[num_run - 1].end;
  place.tasks.erase(place.tasks.begin(), place.tasks.begin() + static_cast<std::ptrdiff_t>(num_run));
  place.pieces.erase(place.pieces.begin(), place.pieces.begin() + static_cast<std::ptrdiff_t>(num_pieces));
  for (Claimed& claimed : place.tasks) {
    claimed.end -= num_pieces;
  }
  place.num_listed -= num_pieces;
}

void MemoryTasks::finish(ThreadPool& pool) {
  std::vector<std::int64_t> tasks;
  for (const Place& place : places_) {
    for (const Claimed& claimed : place.tasks) tasks.push_back(claimed.task);
  }
  for (std::int64_t task; (task = next_.fetch_add(1)) < work_.num_tasks;) tasks.push_back(task);
  pool.parallel_for(static_cast<std::int64_t>(tasks.size()),
                    [&](std::int64_t i) { work_.run(tasks[static_cast<std::size_t>(i)]); });
}

bool MemoryTasks::claim(Place& place) {
  const std::int64_t task = next_.fetch_add(1, std::memory_order_relaxed);
  if (task >= work_.num_tasks) return false;
  work_.list_memory(task, place.pieces);
  place.tasks.push_back({task, place.pieces.size()});
  return true;
}

}  // namespace blendserve::cpu
