// Large blocks in pages of 2 MiB: a first touch of each is one fault instead of 512, and its places need one
// entry of the TLB.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace sslkernels {

constexpr size_t kHugePage = size_t{1} << 21;
constexpr int64_t kLargeBytes = int64_t{1} << 22;  // NumPy's limit

// Of a large block, the huge pages that lie in it as a whole; where the system has none, nothing.
inline void prefer_huge_pages([[maybe_unused]] void* block, [[maybe_unused]] int64_t bytes) {
#if defined(__linux__)
  if (bytes < kLargeBytes) return;
  const auto first = (reinterpret_cast<uintptr_t>(block) + kHugePage - 1) / kHugePage * kHugePage;
  const auto end =
      (reinterpret_cast<uintptr_t>(block) + static_cast<uintptr_t>(bytes)) / kHugePage * kHugePage;
  if (first < end) ::madvise(reinterpret_cast<void*>(first), end - first, MADV_HUGEPAGE);
#endif
}

}  // namespace sslkernels
