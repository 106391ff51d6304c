// Special ids as ranges: they are few and lie together (the first ids, or a block of sentinels).
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "common/philox_lanes.h"

namespace sslkernels::tokens {

class Specials {
 public:
  struct Range {
    int64_t low, high;  // both included
  };

  explicit Specials(std::vector<int64_t> ids) {
    std::sort(ids.begin(), ids.end());
    for (const int64_t id : ids) {
      if (!ranges_.empty() && id <= ranges_.back().high) continue;
      if (!ranges_.empty() && id - 1 == ranges_.back().high) {
        ranges_.back().high = id;
      } else {
        ranges_.push_back({id, id});
      }
    }
  }

  const std::vector<Range>& ranges() const { return ranges_; }

  bool contains(int64_t id) const {
    const auto after = std::upper_bound(ranges_.begin(), ranges_.end(), id,
                                        [](int64_t value, const Range& range) { return value < range.low; });
    return after != ranges_.begin() && id <= std::prev(after)->high;
  }

  // The ranges cut to [low, high]; empty ones left out.
  std::vector<Range> within(int64_t low, int64_t high) const {
    std::vector<Range> cut;
    for (const Range& range : ranges_) {
      const Range part{std::max(range.low, low), std::min(range.high, high)};
      if (part.low <= part.high) cut.push_back(part);
    }
    return cut;
  }

 private:
  std::vector<Range> ranges_;
};

// 32-bit copies of ids; returns whether one does not fit.
[[maybe_unused]] SSLK_CLONES static bool narrow(const int64_t* __restrict ids, int64_t n,
                                                int32_t* __restrict out) {
  uint64_t seen = 0;  // ids + 2^31 lies in [0, 2^32) for those that fit
  for (int64_t i = 0; i < n; ++i) {
    out[i] = static_cast<int32_t>(ids[i]);
    seen |= static_cast<uint64_t>(ids[i]) + 0x80000000u;
  }
  return seen >> 32 != 0;
}

// special[i] |= low <= ids[i] <= high
[[maybe_unused]] SSLK_CLONES static void mark_range(const int32_t* __restrict ids, int64_t n, int32_t low,
                                                    int32_t high, uint8_t* __restrict special) {
  const uint32_t width = static_cast<uint32_t>(high) - static_cast<uint32_t>(low);
  for (int64_t i = 0; i < n; ++i) {
    special[i] |= static_cast<uint32_t>(ids[i]) - static_cast<uint32_t>(low) <= width;
  }
}

// Whether an id that is not marked lies outside [0, vocab_size).
[[maybe_unused]] SSLK_CLONES static bool any_outside(const int32_t* __restrict ids, int64_t n,
                                                     int64_t vocab_size, const uint8_t* __restrict special) {
  const uint32_t size = static_cast<uint32_t>(vocab_size);
  uint32_t outside = 0;
  for (int64_t i = 0; i < n; ++i) {
    outside |= static_cast<uint32_t>(static_cast<uint32_t>(ids[i]) >= size) & ~uint32_t{special[i]};
  }
  return (outside & 1) != 0;
}

[[maybe_unused]] SSLK_CLONES static void invert(const uint8_t* __restrict flags, int64_t n,
                                                uint8_t* __restrict out) {
  for (int64_t i = 0; i < n; ++i) out[i] = flags[i] ^ 1;
}

// special[i] = ids[i] is special, for ids of any value; returns the first place of an ordinary id outside
// [0, vocab_size), or -1. `narrowed` holds n entries of working space.
template <class Id>
int64_t mark_specials(const Id* ids, int64_t n, const Specials& specials,
                      const std::vector<Specials::Range>& fitting, int64_t vocab_size, int32_t* narrowed,
                      uint8_t* special) {
  bool wide = false;
  const int32_t* small;
  if constexpr (sizeof(Id) == 8) {
    wide = narrow(ids, n, narrowed);
    small = narrowed;
  } else {
    small = ids;
  }
  constexpr size_t kMostPasses = 16;  // past so many ranges a search a token is cheaper
  if (wide || fitting.size() > kMostPasses) {
    for (int64_t i = 0; i < n; ++i) special[i] = specials.contains(ids[i]);
  } else {
    std::fill_n(special, n, uint8_t{0});
    for (const Specials::Range& range : fitting) {
      mark_range(small, n, static_cast<int32_t>(range.low), static_cast<int32_t>(range.high), special);
    }
  }
  if (vocab_size < 0 || (!wide && !any_outside(small, n, vocab_size, special))) return -1;
  for (int64_t i = 0; i < n; ++i) {
    if ((ids[i] < 0 || ids[i] >= vocab_size) && special[i] == 0) return i;
  }
  return -1;
}

}  // namespace sslkernels::tokens
