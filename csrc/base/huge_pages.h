#pragma once

#include <cstddef>
#include <vector>

namespace blendserve {

// Tells the kernel to back memory that is not used yet with huge pages where it can: large arrays that are read in any
// order cost a page-table walk at almost every access otherwise. Has no effect on what a program computes.
void advise_huge_pages(void* begin, std::size_t size_bytes);

// vector::reserve and vector::resize for such an array. To be called while it is empty.
template <typename T>
void reserve_huge(std::vector<T>& values, std::size_t count) {
  values.reserve(count);
  advise_huge_pages(values.data(), values.capacity() * sizeof(T));
}

template <typename T>
void resize_huge(std::vector<T>& values, std::size_t count) {
  reserve_huge(values, count);
  values.resize(count);
}

}  // namespace blendserve
