#pragma once

namespace blendserve {

// How many times as long as the performance model says a device takes.
struct TimeCorrection {
  double compute = 1;  // for arithmetic
  double memory = 1;   // for reading weights and KV cache

  bool operator==(const TimeCorrection&) const = default;
};

}  // namespace blendserve
