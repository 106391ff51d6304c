// Random ids: uniform over the ordinary ones, or out of a cluster drawn for the token's own.
#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "request.h"
#include "specials.h"

namespace sslkernels::tokens {

// ranks[i] = bounded(words[i], n)
[[maybe_unused]] SSLK_CLONES static void bound_words(const uint32_t* __restrict words, int64_t count,
                                                     uint32_t n, uint32_t* __restrict ranks) {
  for (int64_t i = 0; i < count; ++i) ranks[i] = static_cast<uint32_t>((uint64_t{words[i]} * n) >> 32);
}

// ids[i] += width where ids[i] >= low: ranks step over one range after the other, in ascending order
[[maybe_unused]] SSLK_CLONES static void step_over(uint32_t* __restrict ids, int64_t count, uint32_t low,
                                                   uint32_t width) {
  for (int64_t i = 0; i < count; ++i) ids[i] += ids[i] >= low ? width : 0;
}

class UniformDraw {
 public:
  UniformDraw(const Specials& specials, int64_t vocab_size) : vocab_size_(vocab_size) {
    if (vocab_size < 0 || vocab_size > INT32_MAX) {
      throw std::invalid_argument("vocab_size must lie in [0, 2^31) where mix[1] > 0, got " +
                                  std::to_string(vocab_size));
    }
    skipped_ = specials.within(0, vocab_size - 1);
    drawable_ = vocab_size;
    for (const Specials::Range& range : skipped_) {
      below_.push_back(range.low - (vocab_size - drawable_));  // ordinary ids below the range
      drawable_ -= range.high - range.low + 1;
    }
    if (drawable_ <= 0) {
      throw std::invalid_argument("special_ids must leave an id in [0, vocab_size=" +
                                  std::to_string(vocab_size) + ") where mix[1] > 0");
    }
  }

  // drawn[i] for the words of the tokens originals[places[i]]; drawn has room for `count` entries
  template <class Id>
  void draw(const uint32_t* words, const Id* originals, const uint32_t* places, int64_t count,
            bool exclude_original, uint32_t* drawn) const {
    constexpr size_t kMostPasses = 8;
    if (exclude_original) {
      for (int64_t i = 0; i < count; ++i) drawn[i] = other_than(words[i], originals[places[i]]);
      return;
    }
    bound_words(words, count, static_cast<uint32_t>(drawable_), drawn);
    if (skipped_.size() > kMostPasses) {
      for (int64_t i = 0; i < count; ++i) drawn[i] = id_of(drawn[i]);
      return;
    }
    for (const Specials::Range& range : skipped_) {
      step_over(drawn, count, static_cast<uint32_t>(range.low),
                static_cast<uint32_t>(range.high - range.low + 1));
    }
  }

 private:
  // The ordinary id of this rank.
  uint32_t id_of(uint32_t rank) const {
    const auto after = std::upper_bound(below_.begin(), below_.end(), static_cast<int64_t>(rank));
    if (after == below_.begin()) return rank;
    const size_t last = static_cast<size_t>(after - below_.begin()) - 1;
    return static_cast<uint32_t>(skipped_[last].high + 1 + (rank - below_[last]));
  }

  // The rank of an ordinary id; -1 for another.
  int64_t rank_of(int64_t id) const {
    if (id < 0 || id >= vocab_size_) return -1;
    const auto after =
        std::upper_bound(skipped_.begin(), skipped_.end(), id,
                         [](int64_t value, const Specials::Range& r) { return value < r.low; });
    if (after == skipped_.begin()) return id;
    const Specials::Range& range = *std::prev(after);
    return id <= range.high ? -1
                            : below_[static_cast<size_t>(after - skipped_.begin()) - 1] + id - range.high - 1;
  }

  uint32_t other_than(uint32_t word, int64_t original) const {
    const int64_t own = rank_of(original);
    if (own < 0) return id_of(bounded(word, static_cast<uint32_t>(drawable_)));
    if (drawable_ == 1) return static_cast<uint32_t>(original);
    const uint32_t rank = bounded(word, static_cast<uint32_t>(drawable_ - 1));
    return id_of(rank + (rank >= own ? 1 : 0));
  }

  int64_t vocab_size_, drawable_;
  std::vector<Specials::Range> skipped_;
  std::vector<int64_t> below_;
};

class ClusterDraw {
 public:
  ClusterDraw(const Clusters& clusters, bool exclude_original)
      : clusters_(clusters), excludes_(exclude_original) {
    if (!excludes_) return;
    place_.assign(static_cast<size_t>(clusters.vocabulary), clusters.vocabulary);
    for (int64_t i = 0; i < clusters.ptr[clusters.number]; ++i) {
      if (in_vocabulary(clusters.tokens[i])) place_[static_cast<size_t>(clusters.tokens[i])] = i;
    }
  }

  // drawn[i] for the words of the tokens originals[places[i]]; drawn has room for `count` entries
  template <class Id>
  void draw(const uint32_t* cluster_words, const uint32_t* token_words, const Id* originals,
            const uint32_t* places, int64_t count, uint32_t* drawn) const {
    for (int64_t begin = 0; begin < count; begin += kTogether) {
      int64_t original[kTogether], word[kTogether], cluster[kTogether];
      int32_t own[kTogether];
      const int64_t* limits[kTogether];
      for (int64_t j = 0; j < kTogether; ++j) {
        const int64_t i = std::min(begin + j, count - 1);
        original[j] = originals[places[i]];
        own[j] = cluster_of(original[j]);
        limits[j] = clusters_.limits + std::max(own[j], 0) * clusters_.number;
        word[j] = cluster_words[i];
      }
      if (excludes_) {
        for (int64_t j = 0; j < kTogether; ++j)
          word[j] = cut_out_own(original[j], own[j], limits[j], word[j]);
      }
      find(limits, word, cluster);
      for (int64_t j = 0; j < kTogether && begin + j < count; ++j) {
        drawn[begin + j] =
            static_cast<uint32_t>(token(original[j], own[j], cluster[j], token_words[begin + j]));
      }
    }
  }

 private:
  static constexpr int64_t kCertain = int64_t{1} << 32;
  static constexpr int64_t kTogether = 4;  // binary searches side by side hide each other's loads

  bool in_vocabulary(int64_t id) const { return id >= 0 && id < clusters_.vocabulary; }

  int32_t size(int64_t cluster) const { return clusters_.ptr[cluster + 1] - clusters_.ptr[cluster]; }

  // -1 where a token has none.
  int32_t cluster_of(int64_t id) const {
    const int32_t own = in_vocabulary(id) ? clusters_.cluster_of[id] : -1;
    return own < clusters_.number ? own : -1;
  }

  // Whether the original is among the tokens that are drawn, and is to be left out.
  bool leaves_out(int64_t original, int32_t own) const {
    return excludes_ && own >= 0 && place_[static_cast<size_t>(original)] < clusters_.vocabulary;
  }

  // The width of a cluster in its own row of limits.
  static int64_t width(int32_t own, const int64_t* limits) {
    return limits[own] - (own > 0 ? limits[own - 1] : 0);
  }

  // The word's place in a row from which an own cluster that holds nothing else is cut out.
  int64_t cut_out_own(int64_t original, int32_t own, const int64_t* limits, int64_t word) const {
    if (!leaves_out(original, own) || size(own) != 1) return word;
    const int64_t cut = width(own, limits), low = limits[own] - cut;
    const auto scaled =
        static_cast<int64_t>((static_cast<uint64_t>(word) * static_cast<uint64_t>(kCertain - cut)) >> 32);
    return scaled >= low ? scaled + cut : scaled;
  }

  // The first limit above each word; no branch for the processor to guess, and all in registers.
  void find(const int64_t* const (&limits)[kTogether], const int64_t (&word)[kTogether],
            int64_t (&place)[kTogether]) const {
    const int64_t* base[kTogether];
    for (int64_t j = 0; j < kTogether; ++j) base[j] = limits[j];
    for (int64_t n = clusters_.number; n > 1; n -= n / 2) {
      const int64_t half = n / 2;
      for (int64_t j = 0; j < kTogether; ++j) {
        base[j] += half & -static_cast<int64_t>(base[j][half - 1] <= word[j]);
      }
    }
    for (int64_t j = 0; j < kTogether; ++j) {
      place[j] = std::min<int64_t>(base[j] - limits[j] + (*base[j] <= word[j] ? 1 : 0), clusters_.number - 1);
    }
  }

  int64_t token(int64_t original, int32_t own, int64_t cluster, uint32_t word) const {
    if (own < 0) return token_at(bounded(word, static_cast<uint32_t>(clusters_.ptr[clusters_.number])));
    const bool leaves = leaves_out(original, own), alone = leaves && size(own) == 1;
    if (alone && width(own, clusters_.limits + own * clusters_.number) == kCertain) return original;
    const bool skips = leaves && !alone && cluster == own;
    const auto held = static_cast<uint32_t>(size(cluster) - (skips ? 1 : 0));
    const int64_t rank = clusters_.ptr[cluster] + bounded(word, held);
    return token_at(skips && rank >= place_[static_cast<size_t>(original)] ? rank + 1 : rank);
  }

  int64_t token_at(int64_t rank) const { return in_vocabulary(rank) ? clusters_.tokens[rank] : 0; }

  Clusters clusters_;
  bool excludes_;
  std::vector<int64_t>
      place_;  // of every token among those that are drawn; empty unless originals are left out
};

}  // namespace sslkernels::tokens
