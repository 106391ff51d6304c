// Units: which tokens are selected together. A unit is named by the position of its first eligible token.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "common/philox_lanes.h"

namespace sslkernels::tokens {

// Finds the leader of every group of one sample: the position of its first eligible token.
class Leaders {
 public:
  explicit Leaders(int64_t longest) : slots_(table_size(longest)) {}

  // leader[i] is -1 where i is not eligible or its group is negative.
  void find(const int64_t* groups, const uint8_t* eligible, int64_t n, int32_t* leader) {
    if (!follow_growing(groups, eligible, n, leader)) look_up(groups, eligible, n, leader);
  }

 private:
  // Labels that only grow, as those of words do, need no table; false where one comes back. Without branches,
  // because where a group ends cannot be guessed.
  static bool follow_growing(const int64_t* groups, const uint8_t* eligible, int64_t n, int32_t* leader) {
    int64_t largest = -1;
    int32_t current = -1;
    bool back = false;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t group = groups[i] | (int64_t{eligible[i]} - 1);  // negative where not eligible
      const bool grows = group > largest;
      back |= (group < largest) & (group >= 0);
      largest = std::max(largest, group);
      current ^= (current ^ static_cast<int32_t>(i)) & -static_cast<int32_t>(grows);
      leader[i] = current | static_cast<int32_t>(group >> 63);
    }
    return !back;
  }

  // Open addressing; a slot holds the leader whose label belongs there.
  void look_up(const int64_t* groups, const uint8_t* eligible, int64_t n, int32_t* leader) {
    const size_t mask = table_size(n) - 1;
    std::fill_n(slots_.begin(), mask + 1, -1);
    for (int64_t i = 0; i < n; ++i) {
      leader[i] = -1;
      if (eligible[i] == 0 || groups[i] < 0) continue;
      size_t slot = hash(groups[i]) & mask;
      while (slots_[slot] >= 0 && groups[slots_[slot]] != groups[i]) slot = (slot + 1) & mask;
      if (slots_[slot] < 0) slots_[slot] = static_cast<int32_t>(i);
      leader[i] = slots_[slot];
    }
  }

  static size_t table_size(int64_t positions) {
    size_t size = 8;
    while (size < 2 * static_cast<size_t>(positions)) size *= 2;
    return size;
  }

  // The finalizer of splitmix64 (Steele et al., OOPSLA 2014): labels with a pattern must not collide.
  static size_t hash(int64_t group) {
    uint64_t x = static_cast<uint64_t>(group);
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return static_cast<size_t>(x ^ (x >> 31));
  }

  std::vector<int32_t> slots_;
};

// flags[i]: the kSelect word of position first + i is below `limit` (in (0, 2^32)). `first` is a multiple of
// 4; `flags` holds n entries, rounded up to a multiple of 4 * kLanes.
[[maybe_unused]] SSLK_CLONES static void draw_choice(Key key, int64_t sample, int64_t first, int64_t n,
                                                     uint64_t limit, uint8_t* __restrict flags,
                                                     Ahead* ahead) {
  const uint32_t last = static_cast<uint32_t>(limit - 1);  // the largest word that says yes
  for (int64_t begin = 0; begin < n; begin += 4 * kBlocks * kLanes) {
    Lanes words[kBlocks];
    const uint32_t counter = static_cast<uint32_t>((first + begin) / 4);
    const int64_t blocks = draw_run(key, sample, kSelect, counter, (n - begin + 3) / 4, words, ahead);
    for (int64_t block = 0; block < blocks; ++block) {
      uint32_t four[kLanes];  // the flags of the four positions of a call, a byte each
      const Lanes& w = words[block];
      for (int i = 0; i < kLanes; ++i) {
        four[i] = uint32_t{w[0][i] <= last} | uint32_t{w[1][i] <= last} << 8 |
                  uint32_t{w[2][i] <= last} << 16 | uint32_t{w[3][i] <= last} << 24;
      }
      std::memcpy(flags + begin + block * 4 * kLanes, four, sizeof four);
    }
  }
}

[[maybe_unused]] SSLK_CLONES static void and_flags(const uint8_t* __restrict one,
                                                   const uint8_t* __restrict other, int64_t n,
                                                   uint8_t* __restrict result) {
  for (int64_t i = 0; i < n; ++i) result[i] = one[i] & other[i];
}

[[maybe_unused]] SSLK_CLONES static void mark_leaders(const int32_t* __restrict leader, int64_t n,
                                                      uint8_t* __restrict leads) {
  for (int64_t i = 0; i < n; ++i) leads[i] = leader[i] == static_cast<int32_t>(i);
}

[[maybe_unused]] SSLK_CLONES static int64_t count(const uint8_t* __restrict flags, int64_t n) {
  int64_t sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += flags[i];
  return sum;
}

// Choose the `missing` units of the smallest words among those that lead and are not chosen yet.
inline void top_up(const uint32_t* words, const uint8_t* leads, int64_t n, int64_t missing,
                   std::vector<uint64_t>& ranks, uint8_t* chosen) {
  ranks.clear();
  for (int64_t i = 0; i < n; ++i) {
    if (leads[i] != 0 && chosen[i] == 0)
      ranks.push_back((uint64_t{words[i]} << 32) | static_cast<uint64_t>(i));
  }
  const int64_t taken = std::min<int64_t>(missing, static_cast<int64_t>(ranks.size()));
  if (taken < static_cast<int64_t>(ranks.size())) {
    std::nth_element(ranks.begin(), ranks.begin() + taken, ranks.end());
  }
  for (int64_t i = 0; i < taken; ++i) chosen[ranks[static_cast<size_t>(i)] & 0xFFFFFFFFu] = 1;
}

}  // namespace sslkernels::tokens
