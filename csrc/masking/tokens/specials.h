// Special ids as ranges: they are few and lie together (the first ids, or a block of sentinels).
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
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

// The few ranges that most vocabularies have, for comparisons in 32 bits.
struct FewRanges {
  static constexpr size_t kMost = 4;
  static constexpr uint32_t kUnlimited = UINT32_MAX;  // vocabulary: no id lies outside
  uint32_t low[kMost], width[kMost];
  size_t count;
  uint32_t vocabulary;
};

// ordinary[i] = 1 where ids[i] lies in no range. False where an id does not fit in 32 bits, or an ordinary
// one lies outside the vocabulary: then the flags are to be made again, one by one.
template <int kRanges, class Id>
SSLK_INLINE bool flag_ordinary(const Id* __restrict ids, int64_t n, const FewRanges& few,
                               uint8_t* __restrict ordinary) {
  uint64_t seen = 0;  // ids + 2^31 lies in [0, 2^32) for those that fit
  uint32_t outside = 0;
  for (int64_t i = 0; i < n; ++i) {
    if constexpr (sizeof(Id) == 8) seen |= static_cast<uint64_t>(ids[i]) + 0x80000000u;
    const uint32_t id = static_cast<uint32_t>(ids[i]);
    uint32_t special = 0;
    for (int range = 0; range < kRanges; ++range) special |= id - few.low[range] <= few.width[range];
    outside |= static_cast<uint32_t>(id >= few.vocabulary) & ~special;
    ordinary[i] = static_cast<uint8_t>(special ^ 1);
  }
  return seen >> 32 == 0 && ((outside & 1) == 0 || few.vocabulary == FewRanges::kUnlimited);
}

template <class Id>
SSLK_BYTE_CLONES static bool flag_few(const Id* ids, int64_t n, const FewRanges& few, uint8_t* ordinary) {
  switch (few.count) {
    case 0:
      return flag_ordinary<0>(ids, n, few, ordinary);
    case 1:
      return flag_ordinary<1>(ids, n, few, ordinary);
    case 2:
      return flag_ordinary<2>(ids, n, few, ordinary);
    case 3:
      return flag_ordinary<3>(ids, n, few, ordinary);
    default:
      return flag_ordinary<4>(ids, n, few, ordinary);
  }
}

// Tells ordinary ids from special ones, and from those outside the vocabulary.
class Flagger {
 public:
  Flagger(const Specials& specials, int64_t vocab_size) : specials_(specials), vocab_size_(vocab_size) {
    const std::vector<Specials::Range> fitting = specials.within(INT32_MIN, INT32_MAX);
    if (fitting.size() > FewRanges::kMost) return;
    few_.emplace();
    few_->count = fitting.size();
    few_->vocabulary = vocab_size < 0 ? FewRanges::kUnlimited : static_cast<uint32_t>(vocab_size);
    for (size_t i = 0; i < fitting.size(); ++i) {
      few_->low[i] = static_cast<uint32_t>(fitting[i].low);
      few_->width[i] = static_cast<uint32_t>(fitting[i].high) - few_->low[i];
    }
  }

  const std::optional<FewRanges>& few() const { return few_; }

  // ordinary[i] = ids[i] is not special; returns the first place of an ordinary id outside [0, vocab_size),
  // or -1.
  template <class Id>
  int64_t flag(const Id* ids, int64_t n, uint8_t* ordinary) const {
    if (few_ && flag_few(ids, n, *few_, ordinary)) return -1;
    for (int64_t i = 0; i < n; ++i) {
      const bool special = specials_.contains(ids[i]);
      ordinary[i] = special ? 0 : 1;
      if (!special && vocab_size_ >= 0 && (ids[i] < 0 || ids[i] >= vocab_size_)) return i;
    }
    return -1;
  }

 private:
  const Specials& specials_;
  int64_t vocab_size_;
  std::optional<FewRanges> few_;
};

}  // namespace sslkernels::tokens
