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

// By row.
std::vector<std::uint8_t> families(const TreeLayout& layout, std::span<const LengthEstimate> estimates,
                                   std::int32_t& count) {
  const Strata strata = top_level_strata(layout);
  std::vector<std::int32_t> largest = strata_by_rank(strata);
  std::ranges::stable_sort(largest, std::ranges::greater{},
                           [&](std::int32_t stratum) { return strata.sizes[static_cast<std::size_t>(stratum)]; });
  std::vector<std::int32_t> of_stratum(strata.sizes.size(), kPooled);
  for (const std::int32_t stratum : largest) {
    if (count == LengthClasses::kMaxSubtrees ||
        strata.sizes[static_cast<std::size_t>(stratum)] < LengthClasses::kMinSubtreeSize) {
      break;
    }
    of_stratum[static_cast<std::size_t>(stratum)] = count++;
  }
  std::array<std::int32_t, kNumPools> of_pool;
  of_pool.fill(kPooled);
  std::vector<std::uint8_t> of_row(layout.rows.size());
  for (std::size_t leaf = 0; leaf < layout.rows.size(); ++leaf) {
    const auto row = static_cast<std::size_t>(layout.rows[leaf]);
    std::int32_t family = of_stratum[static_cast<std::size_t>(strata.leaf_strata[leaf])];
    if (family == kPooled) {
      std::int32_t& pool = of_pool[pool_of(estimates[row])];
      if (pool == kPooled) pool = count++;
      family = pool;
    }
    of_row[row] = static_cast<std::uint8_t>(family);
  }
  return of_row;
}

using BandEnds = std::array<std::int32_t, LengthClasses::kBands - 1>;

// Prompts up to these lengths make up a quarter, a half, three quarters.
BandEnds band_ends(std::vector<std::int32_t>& prompt_lens) {
  BandEnds ends{};
  if (prompt_lens.empty()) return ends;
  for (std::size_t band = 0; band < ends.size(); ++band) {
    const auto rank = static_cast<std::ptrdiff_t>((band + 1) * prompt_lens.size() / LengthClasses::kBands);
    std::ranges::nth_element(prompt_lens, prompt_lens.begin() + rank);
    ends[band] = prompt_lens[static_cast<std::size_t>(rank)];
  }
  return ends;
}

}  // namespace

LengthClasses::LengthClasses(const TreeLayout& layout, std::span<const LengthEstimate> estimates,
                             std::span<const std::int32_t> prompt_lens)
    : of_row(families(layout, estimates, num_families)) {
  std::vector<std::vector<std::int32_t>> lens_of(static_cast<std::size_t>(num_families));
  for (std::size_t row = 0; row < of_row.size(); ++row) lens_of[of_row[row]].push_back(prompt_lens[row]);
  std::vector<BandEnds> ends;
  for (auto& lens : lens_of) ends.push_back(band_ends(lens));
  for (std::size_t row = 0; row < of_row.size(); ++row) {
    const BandEnds& of_family = ends[of_row[row]];
    const auto band = std::ranges::lower_bound(of_family, prompt_lens[row]) - of_family.begin();
    of_row[row] = static_cast<std::uint8_t>(of_row[row] * kBands + band);
  }
}

}  // namespace blendserve
