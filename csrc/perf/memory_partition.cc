#include "perf/memory_partition.h"

#include <cmath>
#include <limits>

#include "perf/checks.h"

namespace blendserve {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

void require_density(const char* name, double rho) { require(rho >= 0, name, rho, "0 or more, +infinity included"); }

// Share of the memory that belongs to the denser of two sides.
double denser_share(double dense, double sparse, double root) {
  if (root >= dense) return 1;
  if (root <= sparse || std::isinf(dense)) return 0;
  return (root - sparse) / (dense - sparse);
}

}  // namespace

MemoryPartition partition(double memory, double rho_left, double rho_right, double rho_root) {
  require(std::isfinite(memory) && memory >= 0, "memory", memory, "0 or more and finite");
  require_density("rho_left", rho_left);
  require_density("rho_right", rho_right);
  require_density("rho_root", rho_root);
  double left_share = 0.5;
  if (rho_left > rho_right) left_share = denser_share(rho_left, rho_right, rho_root);
  if (rho_left < rho_right) left_share = 1 - denser_share(rho_right, rho_left, rho_root);
  return {.left = memory * left_share, .right = memory * (1 - left_share)};
}

}  // namespace blendserve
