#include "kernels/cpu/isa.h"

#include <atomic>
#include <string>

#include "base/error.h"

namespace blendserve::cpu {

namespace {

bool has_avx2() {
#ifdef __x86_64__
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

std::atomic<Isa>& active() {
  static std::atomic<Isa> isa{best_isa()};
  return isa;
}

}  // namespace

Isa best_isa() {
  static const Isa best = has_avx2() ? Isa::kAvx2 : Isa::kScalar;
  return best;
}

Isa active_isa() { return active().load(std::memory_order_relaxed); }

void set_active_isa(std::string_view name) {
  if (name == "auto") {
    active() = best_isa();
  } else if (name == "scalar") {
    active() = Isa::kScalar;
  } else if (name == "avx2" && has_avx2()) {
    active() = Isa::kAvx2;
  } else if (name == "avx2") {
    throw InvalidInput("this processor has no AVX2 with FMA; choose \"scalar\" or \"auto\"");
  } else {
    throw InvalidInput("isa is \"" + std::string(name) + R"("; it must be "scalar", "avx2" or "auto")");
  }
}

std::string_view to_string(Isa isa) { return isa == Isa::kAvx2 ? "avx2" : "scalar"; }

}  // namespace blendserve::cpu
