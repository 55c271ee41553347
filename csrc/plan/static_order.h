#pragma once

#include <cstdint>

#include "request/request.h"

namespace blendserve {

// The orders that look at one request at a time: the baselines of the paper's evaluation.
enum class StaticOrder : std::uint8_t {
  kFcfs,    // as they arrived
  kRandom,  // by a keyed hash of the arrival number
  kDfs,     // depth-first through the prefix tree, children in token order: lexicographic by prompt
};

// A strict weak order over requests, total because ties fall back to the arrival number.
class RequestLess {
 public:
  RequestLess(StaticOrder order, std::uint64_t seed) : order_(order), seed_(seed) {}
  bool operator()(const Request& a, const Request& b) const;

 private:
  StaticOrder order_;
  std::uint64_t seed_;
};

}  // namespace blendserve
