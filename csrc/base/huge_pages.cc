#include "base/huge_pages.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

#include <cstdint>

namespace blendserve {

#ifdef __linux__

void advise_huge_pages(void* begin, std::size_t size_bytes) {
  constexpr std::uintptr_t kHugePage = std::uintptr_t{1} << 21;
  const auto address = reinterpret_cast<std::uintptr_t>(begin);
  const std::uintptr_t first = (address + kHugePage - 1) / kHugePage * kHugePage;
  const std::uintptr_t last = (address + size_bytes) / kHugePage * kHugePage;
  // A kernel that refuses leaves things as they were.
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
}

#else

void advise_huge_pages(void*, std::size_t) {}

#endif

}  // namespace blendserve
