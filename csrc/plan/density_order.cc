#include "plan/density_order.h"

#include <bit>

#include "base/error.h"
#include "tree/sort_keys.h"

namespace blendserve {
namespace {

constexpr std::size_t kFew = 64;
constexpr int kIndexBits = 32;

// Densities are never negative: their bits are in their order as they are.
std::uint32_t descending_bits(double density) {
  BLENDSERVE_ASSERT(density >= 0);
  return ~std::bit_cast<std::uint32_t>(static_cast<float>(density));
}

}  // namespace

void DensityOrder::sort_entries(std::span<Entry> entries, std::span<std::uint32_t> items) {
  if (entries.size() > kFew) {
    sort_many(entries, items);
    return;
  }
  for (std::size_t i = 1; i < entries.size(); ++i) {
    const Entry entry = entries[i];
    std::size_t hole = i;
    for (; hole > 0 && entries[hole - 1].density < entry.density; --hole) entries[hole] = entries[hole - 1];
    entries[hole] = entry;
  }
  for (std::size_t i = 0; i < entries.size(); ++i) items[i] = entries[i].item;
}

// A radix sort by single precision, then exactly within what that does not tell apart.
void DensityOrder::sort_many(std::span<const Entry> entries, std::span<std::uint32_t> items) {
  if (entries.size() > keys_.size()) {
    keys_.clear();
    scratch_.clear();
    resize_huge(keys_, entries.size());
    resize_huge(scratch_, entries.size());
  }
  const auto keys = std::span(keys_).first(entries.size());
  for (std::size_t i = 0; i < keys.size(); ++i) {
    keys[i] = std::uint64_t{descending_bits(entries[i].density)} << kIndexBits | i;
  }
  sort_keys(keys, scratch_, kIndexBits);
  const auto entry = [&](std::uint64_t key) -> const Entry& { return entries[key & UINT32_MAX]; };
  const auto denser = [&](std::uint64_t a, std::uint64_t b) { return entry(a).density > entry(b).density; };
  for (std::size_t begin = 0; begin < keys.size();) {
    std::size_t end = begin + 1;
    while (end < keys.size() && keys[end] >> kIndexBits == keys[begin] >> kIndexBits) ++end;
    const auto run = keys.subspan(begin, end - begin);
    if (!std::ranges::is_sorted(run, denser)) std::ranges::stable_sort(run, denser);
    begin = end;
  }
  for (std::size_t i = 0; i < keys.size(); ++i) items[i] = entry(keys[i]).item;
}

}  // namespace blendserve
