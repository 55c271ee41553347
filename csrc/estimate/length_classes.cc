#include "estimate/length_classes.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "estimate/strata.h"

namespace blendserve {
namespace {

constexpr std::int32_t kPooled = -1;
constexpr int kNumPools = 8;  // 2^32 tokens

std::size_t pool_of(LengthEstimate estimate) {
  const int doublings = estimate.mean >= 1.0 ? std::ilogb(estimate.mean) : 0;
  return static_cast<std::size_t>(std::min(doublings / 4, kNumPools - 1));
}

}  // namespace

LengthClasses::LengthClasses(const TreeLayout& layout, std::span<const LengthEstimate> estimates) {
  const Strata strata = top_level_strata(layout);
  std::vector<std::int32_t> largest = strata_by_rank(strata);
  std::ranges::stable_sort(largest, std::ranges::greater{},
                           [&](std::int32_t stratum) { return strata.sizes[static_cast<std::size_t>(stratum)]; });
  std::vector<std::int32_t> of_stratum(strata.sizes.size(), kPooled);
  for (const std::int32_t stratum : largest) {
    if (count == kMaxSubtrees || strata.sizes[static_cast<std::size_t>(stratum)] < kMinSubtreeSize) break;
    of_stratum[static_cast<std::size_t>(stratum)] = count++;
  }
  std::array<std::int32_t, kNumPools> of_pool;
  of_pool.fill(kPooled);
  of_row.resize(layout.rows.size());
  for (std::size_t leaf = 0; leaf < layout.rows.size(); ++leaf) {
    const auto row = static_cast<std::size_t>(layout.rows[leaf]);
    std::int32_t length_class = of_stratum[static_cast<std::size_t>(strata.leaf_strata[leaf])];
    if (length_class == kPooled) {
      std::int32_t& pool = of_pool[pool_of(estimates[row])];
      if (pool == kPooled) pool = count++;
      length_class = pool;
    }
    of_row[row] = static_cast<std::uint8_t>(length_class);
  }
}

}  // namespace blendserve
