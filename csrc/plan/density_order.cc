#include "plan/density_order.h"

#include <algorithm>
#include <bit>

#include "base/error.h"
#include "base/huge_pages.h"
#include "tree/sort_keys.h"

namespace blendserve {
namespace {

constexpr int kItemBits = 32;

// Densities are never negative: their bits are in their order as they are.
std::uint32_t descending_bits(double density) {
  return ~std::bit_cast<std::uint32_t>(static_cast<float>(density));
}

}  // namespace

void DensityOrder::sort(std::span<std::uint32_t> items, const Density& density) {
  if (items.size() < 2) return;
  if (items.size() > keys_.size()) {
    keys_.clear();
    scratch_.clear();
    resize_huge(keys_, items.size());
    resize_huge(scratch_, items.size());
  }
  const auto keys = std::span(keys_).first(items.size());
  for (std::size_t i = 0; i < items.size(); ++i) {
    const double value = density(items[i]);
    BLENDSERVE_ASSERT(value >= 0);
    keys[i] = std::uint64_t{descending_bits(value)} << kItemBits | items[i];
  }
  sort_keys(keys, scratch_, kItemBits);
  for (std::size_t i = 0; i < items.size(); ++i) items[i] = static_cast<std::uint32_t>(keys[i]);

  const auto denser = [&](std::uint32_t a, std::uint32_t b) { return density(a) > density(b); };
  for (std::size_t begin = 0; begin < items.size();) {
    std::size_t end = begin + 1;
    while (end < items.size() && keys[end] >> kItemBits == keys[begin] >> kItemBits) ++end;
    const auto run = items.subspan(begin, end - begin);
    if (!std::ranges::is_sorted(run, denser)) std::ranges::stable_sort(run, denser);
    begin = end;
  }
}

}  // namespace blendserve
