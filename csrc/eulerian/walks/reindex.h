// reindex: the nodes of each walk renumbered into [0, scope).
#pragma once

#include <bit>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "../../common/philox.h"
#include "checks.h"

namespace sslkernels::walks {

enum class Renumbering { kFirstVisit, kCyclic, kRandom };

inline Renumbering renumbering(const std::string& mode) {
  if (mode == "first_visit") return Renumbering::kFirstVisit;
  if (mode == "cyclic") return Renumbering::kCyclic;
  if (mode == "random") return Renumbering::kRandom;
  throw std::invalid_argument("mode must be first_visit, cyclic or random, got " + mode);
}

// A hash map from 32-bit keys, for up to `most` of them; open addressing at most half full.
class NumberMap {
 public:
  void clear(int64_t most) {
    slots_.assign(std::bit_ceil(static_cast<uint64_t>(2 * most + 1)), kEmpty);
    shift_ = 64 - std::countr_zero(static_cast<uint64_t>(slots_.size()));
  }
  // The value of `key`, which is `fresh` if it has none yet.
  uint32_t& at(uint32_t key, uint32_t fresh) {
    uint64_t place = slots_.size() == 1 ? 0 : (key * 0x9E3779B97F4A7C15u) >> shift_;
    while (slots_[place].key != kEmpty.key && slots_[place].key != key) place = (place + 1) % slots_.size();
    if (slots_[place].key == kEmpty.key) slots_[place] = Entry{key, fresh};
    return slots_[place].value;
  }

 private:
  struct Entry {
    uint64_t key;
    uint32_t value;
  };
  static constexpr Entry kEmpty{~uint64_t{0}, 0};
  std::vector<Entry> slots_;
  int shift_ = 63;
};

// The arguments of reindex.
template <class Id>
struct Renumber {
  const Id* nodes;  // (steps)
  int64_t steps;
  const int64_t* ptr;  // (graphs + 1)
  int64_t graphs;
  int64_t scope;
  Renumbering mode;
  const int64_t* sample_ids;  // (graphs) or null
  int64_t seed, step;
};

// Writes to steps [begin, end) of `ids` how many other nodes the walk met before this one; returns how many
// there are in all.
template <class Id>
int64_t count_visits(const Renumber<Id>& work, int64_t begin, int64_t end, NumberMap& map, int32_t* ids) {
  map.clear(end - begin);
  uint32_t met = 0;
  for (int64_t i = begin; i < end; ++i) {
    if (static_cast<uint64_t>(work.nodes[i]) > INT32_MAX) {
      throw std::invalid_argument(entry("nodes", i) + " is " + std::to_string(work.nodes[i]) +
                                  ", outside [0, 2^31)");
    }
    const uint32_t number = map.at(static_cast<uint32_t>(work.nodes[i]), met);
    met += number == met;
    ids[i] = static_cast<int32_t>(number);
  }
  return met;
}

// New ids of the nodes by first visit: `count` different ones of [0, scope), all choices alike (a
// Fisher-Yates shuffle of the scope that stops after `count`; the map holds the places that were moved).
template <class Id>
void draw_ids(const Renumber<Id>& work, Key key, int64_t sample, int64_t count, NumberMap& map,
              std::vector<int32_t>& ids) {
  map.clear(2 * count);
  ids.resize(static_cast<size_t>(count));
  Words words{};
  for (uint32_t i = 0; i < static_cast<uint64_t>(count); ++i) {
    if (i % 4 == 0) words = draw(key, sample, kReindex, i / 4);
    const uint32_t other = i + bounded(words.word[i % 4], static_cast<uint32_t>(work.scope) - i);
    const uint32_t here = map.at(i, i);
    uint32_t& there = map.at(other, other);
    ids[i] = static_cast<int32_t>(there);
    there = here;
  }
}

template <class Id>
void renumber_graph(const Renumber<Id>& work, Key key, int64_t g, NumberMap& map, std::vector<int32_t>& drawn,
                    int32_t* ids) {
  const int64_t begin = work.ptr[g], end = work.ptr[g + 1];
  const int64_t count = count_visits(work, begin, end, map, ids);
  if (count > work.scope) {
    throw std::invalid_argument("scope is " + std::to_string(work.scope) + ", graph " + std::to_string(g) +
                                " has " + std::to_string(count) + " distinct nodes");
  }
  const int64_t sample = work.sample_ids == nullptr ? g : work.sample_ids[g];
  if (work.mode == Renumbering::kCyclic) {
    const uint32_t word = draw(key, sample, kReindexOffset, 0).word[0];
    const int64_t offset = bounded(word, static_cast<uint32_t>(work.scope));
    for (int64_t i = begin; i < end; ++i) ids[i] = static_cast<int32_t>((ids[i] + offset) % work.scope);
  } else if (work.mode == Renumbering::kRandom) {
    draw_ids(work, key, sample, count, map, drawn);
    for (int64_t i = begin; i < end; ++i) ids[i] = drawn[static_cast<size_t>(ids[i])];
  }
}

template <class Id>
void check_renumber(const Renumber<Id>& work) {
  check_ptr("ptr", work.ptr, work.graphs, work.steps);
  const int64_t scope = work.scope;
  if (scope < 1 || scope > INT32_MAX) {
    throw std::invalid_argument("scope is " + std::to_string(scope) + ", outside [1, 2^31)");
  }
}

// `ids` (steps) is filled.
template <class Loop, class Id>
void renumber(const Loop& loop, const Renumber<Id>& work, int32_t* ids) {
  check_renumber(work);
  const Key key = stream_key(work.seed, work.step);
  loop(work.graphs, 256, [&](int64_t begin, int64_t end) {
    NumberMap map;
    std::vector<int32_t> drawn;
    for (int64_t g = begin; g < end; ++g) renumber_graph(work, key, g, map, drawn, ids);
  });
}

}  // namespace sslkernels::walks
