#pragma once

#include <cstdint>
#include <vector>

#include "plan/annotate.h"

namespace blendserve {

// Leaves [begin, end) of a layout, which the scanners see as one node with one density.
struct ScanUnit {
  std::int32_t begin = 0;
  std::int32_t end = 0;
  Cost cost;  // of the leaves, with the segments that lie within the unit
};

// Merges what needs no inner order, so that the scanners do not jitter: a subtree becomes one unit when it holds at
// most 1/1024 of the job's work or when its leaves' densities differ by at most 10 %; so do neighbours under one node
// that differ by at most that. From left to right; every leaf is in one unit.
std::vector<ScanUnit> scan_units(const AnnotatedTree& tree);

}  // namespace blendserve
