#include "perf/device_spec.h"

#include "perf/checks.h"

namespace blendserve {

double DeviceSpec::total_flops(std::int64_t element_bytes) const {
  require_element_bytes("element_bytes", element_bytes);
  const double flops = element_bytes == 4 ? flops_4_byte : element_bytes == 2 ? flops_2_byte : flops_1_byte;
  return flops * static_cast<double>(tp);
}

void DeviceSpec::validate() const {
  require_positive("flops_4_byte", flops_4_byte);
  require_positive("flops_2_byte", flops_2_byte);
  require_positive("flops_1_byte", flops_1_byte);
  require_positive("bandwidth", bandwidth);
  require_positive("memory_bytes", memory_bytes);
  require_at_least_one("tp", tp);
  require(beta >= 0 && beta <= 1, "beta", beta, "between 0 (perfect overlap) and 1 (none)");
  require_at_least_one("num_nano_batches", num_nano_batches);
  require_at_least_one("token_tile", token_tile);
  if (kv_memory_bytes) require_positive("kv_memory_bytes", *kv_memory_bytes);
  if (measured) measured->validate();
}

}  // namespace blendserve
