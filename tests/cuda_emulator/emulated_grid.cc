#include "emulated_grid.h"

#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <memory>

EmulatedIndex threadIdx, blockIdx, gridDim;

namespace blendserve::cuda {
alignas(1024) unsigned char shared[cuda_emulator::kSharedBytes];
}

namespace cuda_emulator {

bool copies_land_late = false;

namespace {

constexpr std::size_t kStackBytes = std::size_t{128} << 10;
constexpr std::int64_t kMaxIdleTurns = 5'000'000;

struct Fiber {
  ucontext_t context{};
  std::vector<char> stack = std::vector<char>(kStackBytes);
  bool done = false;
};

std::vector<Fiber> fibers(kMaxThreads);
ucontext_t scheduler;
std::unique_ptr<Cta> cta;
const std::function<void()>* body = nullptr;
int num_fibers = 0;
std::int64_t idle_turns = 0;

Fiber& fiber(int thread) { return fibers[static_cast<std::size_t>(thread)]; }

// The thread to go on with when `thread` waits or has returned, perhaps itself; -1 when all have returned. A warp keeps
// its turn until none of its lanes gets on, so that warps run as far apart as their barriers let them.
int next_thread(int thread) {
  const int warp = thread / 32 * 32;
  const bool is_stuck = idle_turns % 33 == 32;
  for (int step = 1; step <= 32 && !is_stuck; ++step) {
    const int next = warp + (thread - warp + step) % 32;
    if (!fiber(next).done) {
      return next;
    }
  }
  for (int step = 32; step < num_fibers + 32; ++step) {
    const int next = (warp + step) % num_fibers;
    if (!fiber(next).done) {
      return next;
    }
  }
  return -1;
}

void run_fiber() {
  (*body)();
  const int self = threadIdx.x;
  fiber(self).done = true;
  const int next = next_thread(self);
  if (next >= 0) {
    threadIdx.x = next;
    setcontext(&fiber(next).context);
  }
  setcontext(&scheduler);
}

void run_cta(int num_threads) {
  num_fibers = num_threads;
  idle_turns = 0;
  cta = std::make_unique<Cta>(num_threads);
  std::memset(blendserve::cuda::shared, 0xFF, kSharedBytes);
  for (int thread = 0; thread < num_threads; ++thread) {
    Fiber& each = fiber(thread);
    each.done = false;
    getcontext(&each.context);
    each.context.uc_stack.ss_sp = each.stack.data();
    each.context.uc_stack.ss_size = each.stack.size();
    makecontext(&each.context, run_fiber, 0);
  }
  threadIdx.x = 0;
  swapcontext(&scheduler, &fiber(0).context);
}

}  // namespace

Cta::Cta(int num_threads) : barrier(num_threads), warps(static_cast<std::size_t>(num_threads) / 32) {}

Cta& current_cta() { return *cta; }
Warp& current_warp() { return cta->warps[static_cast<std::size_t>(threadIdx.x) / 32]; }

void yield() {
  if (++idle_turns > kMaxIdleTurns) {
    std::fputs("deadlock: the threads of a CTA wait for each other\n", stderr);
    std::abort();
  }
  const int self = threadIdx.x;
  const int next = next_thread(self);
  if (next != self) {
    threadIdx.x = next;
    swapcontext(&fiber(self).context, &fiber(next).context);
    threadIdx.x = self;
  }
}

void Barrier::wait() {
  const std::int64_t phase = phase_;
  if (++num_waiting_ == num_threads_) {
    num_waiting_ = 0;
    ++phase_;
    idle_turns = 0;
    return;
  }
  while (phase_ == phase) {
    yield();
  }
}

void run_grid(int num_ctas, int num_threads, const std::function<void()>& kernel) {
  body = &kernel;
  gridDim.x = num_ctas;
  for (blockIdx.x = 0; blockIdx.x < num_ctas; ++blockIdx.x) {
    run_cta(num_threads);
  }
}

}  // namespace cuda_emulator
