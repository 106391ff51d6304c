// Memory for arrays that are visited at random.
#pragma once

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <cstddef>
#include <cstdint>
#include <new>

namespace sslkernels::walks {

constexpr std::align_val_t kHugePage{size_t{1} << 21};

// A graph of 10^6 edges is visited at random: pages of 4 KiB would cost it a miss of the TLB at every step.
inline void prefer_huge_pages([[maybe_unused]] char* block, [[maybe_unused]] int64_t bytes) {
#if defined(__linux__)
  if (bytes >= int64_t{1} << 22) ::madvise(block, static_cast<size_t>(bytes), MADV_HUGEPAGE);
#endif
}

// For vectors: large ones lie in huge pages.
template <class T>
struct PageAllocator {
  using value_type = T;
  static constexpr size_t kLarge = size_t{1} << 22;

  PageAllocator() = default;
  template <class Other>
  PageAllocator(const PageAllocator<Other>&) {}

  T* allocate(size_t count) {
    const size_t bytes = count * sizeof(T);
    if (bytes < kLarge) return static_cast<T*>(::operator new(bytes));
    void* block = ::operator new(bytes, kHugePage);
    prefer_huge_pages(static_cast<char*>(block), static_cast<int64_t>(bytes));
    return static_cast<T*>(block);
  }
  void deallocate(T* block, size_t count) {
    if (count * sizeof(T) < kLarge) {
      ::operator delete(block);
    } else {
      ::operator delete(block, kHugePage);
    }
  }
  friend bool operator==(const PageAllocator&, const PageAllocator&) { return true; }
};

}  // namespace sslkernels::walks
