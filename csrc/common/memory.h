// The memory of results, with few page faults: each costs more than what is written into 4 KiB.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace sslkernels {

// -- large blocks -------------------------------------------------------------------------------------------

// A first touch of a page of 2 MiB is one fault instead of 512, and its places need one entry of the TLB.
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

// -- small ones ---------------------------------------------------------------------------------------------

constexpr int64_t kLargestOnHeap = int64_t{32} << 20;  // bytes of a block, whatever glibc has seen

// glibc gives what is free at the end of its heap back to the system as soon as that is more than twice the
// largest block freed so far. Results that are freed together, as those of a call are, would so be taken anew
// at each call: a page fault for every 4 KiB of them, which costs more than what is written there. This shows
// glibc a block of four times the size, of address space alone, as a program with larger tensors does: from
// then on the process keeps up to eight times the largest result (64 MB at most), and takes blocks of up to
// four times its size from the heap. MALLOC_TRIM_THRESHOLD_=131072 in the environment prevents that.
inline void keep_freed_memory([[maybe_unused]] int64_t bytes) {
#if defined(__GLIBC__)
  constexpr int64_t kFirst = int64_t{32} << 10, kLast = kLargestOnHeap / 4;  // a quarter of glibc's limits
  static std::atomic<int64_t> largest = kFirst;
  if (bytes >= kLargestOnHeap) return;
  bytes = std::min(bytes, kLast - 4096);
  if (bytes <= largest.load(std::memory_order_relaxed)) return;
  largest.store(bytes, std::memory_order_relaxed);
  void* volatile block = std::malloc(static_cast<size_t>(4 * bytes));
  std::free(block);
#endif
}

}  // namespace sslkernels
