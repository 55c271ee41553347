#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "base/huge_pages.h"

namespace blendserve {

// Sorts items by density, the densest first; equal ones keep their order. Near linear. Keeps its buffers from one call
// to the next.
class DensityOrder {
 public:
  // density(item) is 0 or more, perhaps infinite; it is called once an item.
  template <typename Density>
  void sort(std::span<std::uint32_t> items, const Density& density) {
    if (items.size() < 2) return;
    if (items.size() > entries_.size()) {
      entries_.clear();
      resize_huge(entries_, items.size());
    }
    const auto entries = std::span(entries_).first(items.size());
    for (std::size_t i = 0; i < items.size(); ++i) entries[i] = {density(items[i]), items[i]};
    sort_entries(entries, items);
  }

 private:
  struct Entry {
    double density = 0;
    std::uint32_t item = 0;
  };

  void sort_entries(std::span<Entry> entries, std::span<std::uint32_t> items);
  void sort_many(std::span<const Entry> entries, std::span<std::uint32_t> items);

  std::vector<Entry> entries_;
  std::vector<std::uint64_t> keys_;
  std::vector<std::uint64_t> scratch_;
};

}  // namespace blendserve
