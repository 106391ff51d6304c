// Memory for arrays that are visited at random.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>

#include "../../common/memory.h"

namespace sslkernels::walks {

// A graph of 10^6 edges is visited at random: pages of 4 KiB would cost it a miss of the TLB at every step.
constexpr std::align_val_t kAligned{kHugePage};

// For vectors: large ones lie in huge pages.
template <class T>
struct PageAllocator {
  using value_type = T;
  static constexpr size_t kLarge = kLargeBytes;

  PageAllocator() = default;
  template <class Other>
  PageAllocator(const PageAllocator<Other>&) {}

  T* allocate(size_t count) {
    const size_t bytes = count * sizeof(T);
    if (bytes < kLarge) return static_cast<T*>(::operator new(bytes));
    void* block = ::operator new(bytes, kAligned);
    prefer_huge_pages(block, static_cast<int64_t>(bytes));
    return static_cast<T*>(block);
  }
  void deallocate(T* block, size_t count) {
    if (count * sizeof(T) < kLarge) {
      ::operator delete(block);
    } else {
      ::operator delete(block, kAligned);
    }
  }
  friend bool operator==(const PageAllocator&, const PageAllocator&) { return true; }
};

}  // namespace sslkernels::walks
