#include "kernels/cpu/isa.h"

#include <algorithm>
#include <atomic>
#include <iterator>
#include <string>

#include "base/error.h"

namespace blendserve::cpu {

namespace {

struct NamedIsa {
  std::string_view name;
  Isa isa;
};

constexpr NamedIsa kIsas[] = {{"scalar", Isa::kScalar}, {"avx2", Isa::kAvx2}, {"avx512", Isa::kAvx512}};

Isa find_best_isa() {
#ifdef __x86_64__
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return __builtin_cpu_supports("avx512f") ? Isa::kAvx512 : Isa::kAvx2;
  }
#endif
  return Isa::kScalar;
}

std::atomic<Isa>& active() {
  static std::atomic<Isa> isa{best_isa()};
  return isa;
}

}  // namespace

Isa best_isa() {
  static const Isa best = find_best_isa();
  return best;
}

Isa active_isa() { return active().load(std::memory_order_relaxed); }

void set_active_isa(std::string_view name) {
  if (name == "auto") {
    active() = best_isa();
    return;
  }
  const auto* named =
      std::find_if(std::begin(kIsas), std::end(kIsas), [&](const NamedIsa& x) { return x.name == name; });
  if (named == std::end(kIsas)) {
    throw InvalidInput("isa is \"" + std::string(name) + R"("; it must be "scalar", "avx2", "avx512" or "auto")");
  }
  if (named->isa > best_isa()) {
    throw InvalidInput("isa is \"" + std::string(name) + "\", which this processor lacks; its best is \"" +
                       std::string(to_string(best_isa())) + "\"");
  }
  active() = named->isa;
}

std::string_view to_string(Isa isa) { return kIsas[static_cast<std::size_t>(isa)].name; }

}  // namespace blendserve::cpu
