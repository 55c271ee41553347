#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <type_traits>

#include "base/huge_pages.h"

namespace blendserve {

// Uninitialized elements that start on a cache line, large arrays on a huge page. Move-only.
template <class T>
class AlignedArray {
  static_assert(std::is_trivial_v<T>);

 public:
  AlignedArray() = default;
  explicit AlignedArray(std::size_t size)
      : elements_(allocate(size * sizeof(T)), Free{alignment(size * sizeof(T))}), size_(size) {
    advise_huge_pages(elements_.get(), size_bytes());
  }

  T* data() { return elements_.get(); }
  const T* data() const { return elements_.get(); }
  std::size_t size() const { return size_; }
  std::size_t size_bytes() const { return size_ * sizeof(T); }

 private:
  struct Free {
    std::align_val_t alignment{};
    void operator()(T* elements) const { ::operator delete(elements, alignment); }
  };

  static std::align_val_t alignment(std::size_t num_bytes) {
    constexpr std::size_t kCacheLine = 64;
    constexpr std::size_t kHugePage = std::size_t{1} << 21;
    return std::align_val_t{num_bytes < kHugePage ? kCacheLine : kHugePage};
  }
  static T* allocate(std::size_t num_bytes) { return static_cast<T*>(::operator new(num_bytes, alignment(num_bytes))); }

  std::unique_ptr<T[], Free> elements_;
  std::size_t size_ = 0;
};

}  // namespace blendserve
