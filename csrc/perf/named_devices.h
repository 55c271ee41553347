#pragma once

#include <span>
#include <string_view>

#include "perf/device_spec.h"

namespace blendserve {

// A data sheet: dense FLOP/s by element size, B/s, bytes.
struct NamedDevice {
  std::string_view name;
  double flops_4_byte;
  double flops_2_byte;
  double flops_1_byte;
  double bandwidth;
  double memory_bytes;
};

std::span<const NamedDevice> named_devices();

}  // namespace blendserve
