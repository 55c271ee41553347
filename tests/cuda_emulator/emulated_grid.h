#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <vector>

// A grid of CTAs on the CPU: enough of CUDA to run the attention kernels' own source. The threads of a CTA are fibers
// that take turns at synchronisation points, CTAs run one after the other.
struct EmulatedIndex {
  int x;
};
extern EmulatedIndex threadIdx, blockIdx, gridDim;

namespace cuda_emulator {

inline constexpr int kMaxThreads = 256;
inline constexpr std::size_t kSharedBytes = std::size_t{228} << 10;

// Lets the next fiber run.
void yield();

class Barrier {
 public:
  explicit Barrier(int num_threads) : num_threads_(num_threads) {}
  void wait();

 private:
  int num_threads_;
  int num_waiting_ = 0;
  std::int64_t phase_ = 0;
};

// A warp: where its lanes meet, and what they show each other there.
struct Warp {
  Barrier barrier{32};
  std::array<std::array<std::uint32_t, 4>, 32> shown{};
};

// A copy to shared memory that has been issued and has not landed.
struct PendingCopy {
  std::uint32_t barrier;  // that it will arrive at; kNotYetKnown before arrive_after_async_copies
  std::int32_t thread;
  std::function<void()> land;
};

struct Cta {
  explicit Cta(int num_threads);

  Barrier barrier;
  std::vector<Warp> warps;
  std::vector<PendingCopy> pending;
};

Cta& current_cta();
Warp& current_warp();
inline int current_lane() { return threadIdx.x % 32; }

// When copies land: as soon as they are issued, which shows a stage that is given up too early, or as late as somebody
// waits for them, which shows one that is read too early.
extern bool copies_land_late;

// Runs `kernel` for every thread of a grid; shared memory is NaN at the start of each CTA.
void run_grid(int num_ctas, int num_threads, const std::function<void()>& kernel);

// What the lanes of a warp show, each the same type of up to 16 bytes, to all of them.
template <typename Value>
std::array<Value, 32> exchange(const Value& value) {
  static_assert(sizeof(Value) <= sizeof(Warp::shown[0]));
  Warp& warp = current_warp();
  std::memcpy(warp.shown[static_cast<std::size_t>(current_lane())].data(), &value, sizeof(Value));
  warp.barrier.wait();
  std::array<Value, 32> all;
  for (std::size_t lane = 0; lane < 32; ++lane) {
    std::memcpy(&all[lane], warp.shown[lane].data(), sizeof(Value));
  }
  warp.barrier.wait();
  return all;
}

}  // namespace cuda_emulator

namespace blendserve::cuda {
extern unsigned char shared[cuda_emulator::kSharedBytes];
}
