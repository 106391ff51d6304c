// Units: which tokens are selected together. A unit is named by the position of its first eligible token.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "common/philox_lanes.h"

namespace sslkernels::tokens {

// Finds the leader of every group of one sample. Labels that only grow are told apart by the largest one
// seen; an open-addressing table is filled when the first label comes back.
class Leaders {
 public:
  explicit Leaders(int64_t longest) : slots_(table_size(longest)) {
    known_.reserve(static_cast<size_t>(longest));
  }

  // leader[i]: position of the first eligible token of i's group; -1 where i is not eligible or its group
  // negative
  void find(const int64_t* groups, const uint8_t* eligible, int64_t n, int32_t* leader) {
    known_.clear();
    mask_ = 0;
    int64_t largest = -1, last = -1;
    int32_t last_leader = -1;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t group = groups[i];
      if (eligible[i] == 0 || group < 0) {
        leader[i] = -1;
        continue;
      }
      if (group != last) {
        last = group;
        if (group > largest) {
          largest = group;
          last_leader = static_cast<int32_t>(i);
          note(groups, last_leader);
        } else {
          last_leader = look_up(groups, static_cast<int32_t>(i), n);
        }
      }
      leader[i] = last_leader;
    }
  }

 private:
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

  void note(const int64_t* groups, int32_t leader) {
    known_.push_back(leader);
    if (mask_ != 0) slots_[free_slot(groups, groups[leader])] = leader;
  }

  size_t free_slot(const int64_t* groups, int64_t group) const {
    size_t slot = hash(group) & mask_;
    while (slots_[slot] >= 0 && groups[slots_[slot]] != group) slot = (slot + 1) & mask_;
    return slot;
  }

  int32_t look_up(const int64_t* groups, int32_t position, int64_t n) {
    if (mask_ == 0) {
      mask_ = table_size(n) - 1;
      std::fill_n(slots_.begin(), mask_ + 1, -1);
      for (const int32_t leader : known_) slots_[free_slot(groups, groups[leader])] = leader;
    }
    const size_t slot = free_slot(groups, groups[position]);
    if (slots_[slot] < 0) {
      slots_[slot] = position;
      known_.push_back(position);
    }
    return slots_[slot];
  }

  std::vector<int32_t> slots_, known_;
  size_t mask_ = 0;  // 0: the table is not in use
};

// chosen[i] = eligible[i] and words[i] < limit
[[maybe_unused]] SSLK_CLONES static void choose(const uint32_t* __restrict words, int64_t n, uint64_t limit,
                                                const uint8_t* __restrict eligible,
                                                uint8_t* __restrict chosen) {
  const uint8_t possible = limit > 0;
  const uint32_t last = static_cast<uint32_t>(limit - 1);  // the largest word that says yes
  for (int64_t i = 0; i < n; ++i) {
    chosen[i] = static_cast<uint8_t>((words[i] <= last) & eligible[i] & possible);
  }
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
