// Spans: short kernels over one shared draw, Places::choose: `count` different ones of [0, size), every set
// of them as likely as another, by Floyd's method (Bentley and Floyd, CACM 30(9), 1987). Its i-th step takes
// the i-th word alone, so that a row's spans depend on its own length only, not on the padding or the batch.
//
//   span_mask              the starts are chosen of length - span + 1.
//   geometric_span_groups  lengths first, until they fill the budget, which shortens the last; a span drawn
//                          uniformly changes places with that one. Spans and kept positions are then slots in
//                          a row, and which slots are spans is chosen: all arrangements are alike, and so is
//                          a row read backwards.
//   span_corruption        after which noise token, and after which kept token, a stretch ends is chosen: two
//                          uniform compositions into positive parts, which alternate.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/philox_lanes.h"

namespace sslkernels::spans {

constexpr int64_t kLongest = 0x7FFFFFFF;  // a position is 32 bits of a counter

// The rows of a call. Lengths are int32 or int64; one of the pointers is set.
struct Rows {
  const int32_t* lengths32 = nullptr;
  const int64_t* lengths64 = nullptr;
  const int64_t* sample_ids = nullptr;
  int64_t count = 0;
  Key key{};

  int64_t length(int64_t row) const { return lengths64 != nullptr ? lengths64[row] : lengths32[row]; }
  int64_t sample(int64_t row) const { return sample_ids != nullptr ? sample_ids[row] : row; }

  void check_lengths(int64_t longest) const {
    for (int64_t row = 0; row < count; ++row) {
      if (length(row) >= 0 && length(row) <= longest) continue;
      throw std::invalid_argument("lengths[" + std::to_string(row) + "] is " + std::to_string(length(row)) +
                                  ", outside [0, " + std::to_string(longest) + "]");
    }
  }
};

// Rows that are worth a thread: some 50 us, because waking one up may take as long.
inline int64_t grain(int64_t width, int64_t positions) {
  return std::max<int64_t>(1, positions / (width + 1));
}

inline void require(bool holds, const char* message) {
  if (!holds) throw std::invalid_argument(message);
}

// The words of a row's draws, i for i.
class Drawn {
 public:
  const uint32_t* draw(Key key, int64_t sample, Purpose purpose, int64_t count) {
    const int64_t room = padded(count, 4 * kLanes);
    if (static_cast<int64_t>(words_.size()) < room) words_.resize(static_cast<size_t>(room));
    draw_words(key, sample, purpose, 0, (count + 3) / 4, words_.data());
    return words_.data();
  }

 private:
  std::vector<uint32_t> words_;
};

// Places of [0, size) as bits, in ascending order.
class Places {
 public:
  // `words`: one for each of the `count` places.
  void choose(const uint32_t* words, int64_t count, int64_t size) {
    clear(size);
    for (int64_t i = 0; i < count; ++i) add(words[i], size - count + i);
  }

  // Both choices of `count` places: each waits for its own last place, not for the other's.
  static void choose_two(const uint32_t* words, int64_t count, Places& one, int64_t one_size, Places& two,
                         int64_t two_size) {
    one.clear(one_size);
    two.clear(two_size);
    for (int64_t i = 0; i < count; ++i) {
      one.add(words[i], one_size - count + i);
      two.add(words[count + i], two_size - count + i);
    }
  }

  template <class Body>
  void each(Body&& body) const {
    for (size_t word = 0; word < bits_.size(); ++word) {
      for (uint64_t left = bits_[word]; left != 0; left &= left - 1) {
        body(static_cast<int64_t>(64 * word) + std::countr_zero(left));
      }
    }
  }

 private:
  void clear(int64_t size) { bits_.assign(static_cast<size_t>(size / 64 + 1), 0); }

  // A place of [0, last]; where it is taken, the last one, which never is.
  void add(uint32_t word, int64_t last) {
    const uint32_t own = static_cast<uint32_t>(last), place = bounded(word, own + 1);
    const bool taken = bits_[place / 64] >> (place % 64) & 1;
    const uint32_t added = taken ? own : place;
    bits_[added / 64] |= uint64_t{1} << (added % 64);
  }

  std::vector<uint64_t> bits_;
};

// -- span_mask ---------------------------------------------------------------------------------------------

// floor(rate * length / span + word / 2^32) in whole 2^-32, so that a count that is whole but for rounding is
// that count.
inline int64_t count_spans(double rate, int64_t length, int64_t span, int64_t least, uint32_t word) {
  if (length < span) return 0;
  const double expected =
      std::min(rate * static_cast<double>(length) / static_cast<double>(span), static_cast<double>(length));
  const int64_t scaled = static_cast<int64_t>(expected * 4294967296.0 + 0.5);
  return std::min(std::max((scaled + word) >> 32, least), length - span + 1);
}

template <class Loop>
void span_mask(const Loop& loop, const Rows& rows, int64_t max_length, double rate, int64_t span,
               int64_t min_spans, bool* mask) {
  loop(rows.count, grain(max_length, 65536), [&](int64_t begin, int64_t end) {
    Drawn drawn;
    Places starts;
    for (int64_t row = begin; row < end; ++row) {
      const int64_t length = rows.length(row), sample = rows.sample(row);
      const uint32_t word = draw(rows.key, sample, kSpanCount, 0).word[0];
      const int64_t count = count_spans(rate, length, span, min_spans, word);
      bool* const own = mask + row * max_length;
      std::fill_n(own, max_length, false);  // unlike memset it takes a null pointer where there is nothing
      if (count == 0) continue;
      starts.choose(drawn.draw(rows.key, sample, kSpanPlace, count), count, length - span + 1);
      int64_t covered = 0;
      starts.each([&](int64_t start) {
        const int64_t from = std::max(start, covered);
        covered = start + span;
        std::memset(own + from, 1, static_cast<size_t>(covered - from));
      });
    }
  });
}

// -- geometric_span_groups ---------------------------------------------------------------------------------

// ceil(budget * length - 1e-6). The product is rounded by itself: fused with the difference it would differ
// from the other backends'.
inline int64_t count_hidden(double budget, int64_t length) {
  volatile const double product = budget * static_cast<double>(length);
  return std::max<int64_t>(0, static_cast<int64_t>(std::ceil(product - 1e-6)));
}

// Lengths of spans that fill `hidden` positions: 1 + the number of limits that the span's word reaches.
class SpanLengths {
 public:
  explicit SpanLengths(const std::vector<int64_t>& limits) : limits_(limits) {}

  const std::vector<int32_t>& draw_for(Key key, int64_t sample, int64_t hidden) {
    lengths_.clear();
    for (int64_t left = hidden; left > 0; left -= lengths_.back()) {
      const int64_t at = static_cast<int64_t>(lengths_.size());
      if (at % kChunk == 0) {
        draw_words(key, sample, kSpanLength, static_cast<uint32_t>(at / 4), kChunk / 4, words_);
      }
      lengths_.push_back(static_cast<int32_t>(std::min(1 + reached(words_[at % kChunk]), left)));
    }
    if (!lengths_.empty()) {
      const uint32_t word = draw(key, sample, kSpanCount, 0).word[1];
      std::swap(lengths_[bounded(word, static_cast<uint32_t>(lengths_.size()))], lengths_.back());
    }
    return lengths_;
  }

 private:
  static constexpr int64_t kChunk = 4 * kLanes;
  static constexpr size_t kFew = 16;

  int64_t reached(int64_t word) const {
    if (limits_.size() > kFew) {
      return std::upper_bound(limits_.begin(), limits_.end(), word) - limits_.begin();
    }
    int64_t count = 0;  // a search would guess its branches wrong
    for (const int64_t limit : limits_) count += limit <= word;
    return count;
  }

  const std::vector<int64_t>& limits_;
  std::vector<int32_t> lengths_;
  uint32_t words_[kChunk];
};

template <class Loop>
void geometric_span_groups(const Loop& loop, const Rows& rows, int64_t max_length, double budget,
                           const std::vector<int64_t>& limits, int32_t* groups) {
  loop(rows.count, grain(max_length, 65536), [&](int64_t begin, int64_t end) {
    SpanLengths draws(limits);
    Drawn drawn;
    Places slots;
    for (int64_t row = begin; row < end; ++row) {
      const int64_t length = rows.length(row), sample = rows.sample(row);
      const int64_t hidden = count_hidden(budget, length);
      int32_t* const own = groups + row * max_length;
      std::fill_n(own, max_length, -1);
      const std::vector<int32_t>& lengths = draws.draw_for(rows.key, sample, hidden);
      const int64_t spans = static_cast<int64_t>(lengths.size());
      slots.choose(drawn.draw(rows.key, sample, kSpanPlace, spans), spans, length - hidden + spans);
      int32_t number = 0;
      int64_t wider = 0;  // by how much the spans so far are longer than their slots
      slots.each([&](int64_t slot) {
        const int64_t span = lengths[static_cast<size_t>(number)];
        std::fill_n(own + slot + wider, span, number);
        wider += span - 1;
        ++number;
      });
    }
  });
}

// -- span_corruption ---------------------------------------------------------------------------------------

// How many tokens of a row are noise, and in how many spans; none in a row too short to hold both.
struct Noise {
  Noise(double density, double mean_span, int64_t length) {
    if (length < 2) return;
    const auto halves_to_even = [](double value, int64_t most) {
      return static_cast<int64_t>(std::clamp(std::nearbyint(value), 1.0, static_cast<double>(most)));
    };
    tokens = halves_to_even(density * static_cast<double>(length), length - 1);
    spans = halves_to_even(static_cast<double>(tokens) / mean_span, std::min(tokens, length - tokens));
  }

  int64_t tokens = 0, spans = 0;
};

template <class Id>
struct Text {
  const Id* ids = nullptr;
  int64_t width = 0;
  double noise_density = 0, mean_span = 0;
  int64_t sentinel_start = 0;
  std::optional<int64_t> eos_id;
  int64_t pad_id = 0;

  Noise noise(int64_t length) const { return Noise(noise_density, mean_span, length); }

  void check() const {
    const auto fits = [](const char* name, int64_t id) {
      if (id == static_cast<Id>(id)) return;
      throw std::invalid_argument(std::string(name) + " must fit in the dtype of ids, got " +
                                  std::to_string(id));
    };
    if (sentinel_start < 0) {
      throw std::invalid_argument("sentinel_start must be at least 0, got " + std::to_string(sentinel_start));
    }
    fits("sentinel_start", sentinel_start);
    fits("eos_id", eos_id.value_or(0));
    fits("pad_id", pad_id);
  }
};

struct Widths {
  int64_t inputs = 0, targets = 0;
};

// The lengths of both outputs, which no draw decides; returns the longest.
template <class Id>
Widths measure(const Rows& rows, const Text<Id>& text, int64_t* input_lengths, int64_t* target_lengths) {
  Widths widths;
  const int64_t end = text.eos_id.has_value() ? 1 : 0;
  for (int64_t row = 0; row < rows.count; ++row) {
    const Noise noise = text.noise(rows.length(row));
    if (noise.spans - 1 > text.sentinel_start) {
      throw std::invalid_argument("sentinel_start must be at least " + std::to_string(noise.spans - 1) +
                                  " for the " + std::to_string(noise.spans) + " spans of row " +
                                  std::to_string(row) + ", got " + std::to_string(text.sentinel_start));
    }
    input_lengths[row] = rows.length(row) - noise.tokens + noise.spans + end;
    target_lengths[row] = noise.tokens + noise.spans + end;
    widths.inputs = std::max(widths.inputs, input_lengths[row]);
    widths.targets = std::max(widths.targets, target_lengths[row]);
  }
  return widths;
}

// A row of an output, written from left to right.
template <class Id>
class Writer {
 public:
  Writer(Id* row, int64_t width) : at_(row), end_(row + width) {}

  SSLK_INLINE void put(int64_t id) { *at_++ = static_cast<Id>(id); }

  // kUsual ids at once where both rows have room, because how many are wanted cannot be guessed: what is too
  // much is written over.
  template <int64_t kUsual>
  SSLK_INLINE void copy(const Id* from, int64_t count, const Id* from_end) {
    if (count <= kUsual && end_ - at_ >= kUsual && from_end - from >= kUsual) {
      std::memcpy(at_, from, kUsual * sizeof(Id));
    } else {
      std::copy_n(from, count, at_);
    }
    at_ += count;
  }

  void finish(const std::optional<int64_t>& eos_id, int64_t pad_id) {
    if (eos_id.has_value()) put(*eos_id);
    std::fill(at_, end_, static_cast<Id>(pad_id));
  }

 private:
  Id* at_;
  Id* end_;
};

// Two rows of stretches that alternate: where each ends, kept ones and hidden ones.
class Stretches {
 public:
  void draw(Key key, int64_t sample, const Noise& noise, int64_t length) {
    const int64_t cuts = noise.spans - 1, other = length - noise.tokens;
    const uint32_t* const words = drawn_.draw(key, sample, kSpanPlace, 2 * cuts);
    Places::choose_two(words, cuts, kept_places_, other - 1, hidden_places_, noise.tokens - 1);
    end_at(kept_places_, cuts, other, kept);
    end_at(hidden_places_, cuts, noise.tokens, hidden);
  }

  std::vector<int64_t> kept, hidden;

 private:
  static void end_at(const Places& places, int64_t cuts, int64_t tokens, std::vector<int64_t>& ends) {
    ends.resize(static_cast<size_t>(cuts + 1));
    int64_t* next = ends.data();
    places.each([&](int64_t place) { *next++ = place + 1; });
    *next = tokens;
  }

  Drawn drawn_;
  Places kept_places_, hidden_places_;
};

template <class Id>
struct Outputs {
  Writer<Id> input, target;
};

template <class Id>
SSLK_CLONES static Outputs<Id> corrupt_row(const Text<Id>& text, const Id* ids, int64_t spans,
                                           const int64_t* kept_ends, const int64_t* hidden_ends,
                                           Outputs<Id> outputs) {
  const Id* from = ids;
  const Id* const end = ids + text.width;
  int64_t kept_before = 0, hidden_before = 0, sentinel = text.sentinel_start;
  for (int64_t i = 0; i < spans; ++i, --sentinel) {
    const int64_t kept = kept_ends[i] - kept_before, hidden = hidden_ends[i] - hidden_before;
    outputs.input.template copy<32>(from, kept, end);
    outputs.input.put(sentinel);
    outputs.target.put(sentinel);
    outputs.target.template copy<8>(from + kept, hidden, end);
    from += kept + hidden;
    kept_before += kept;
    hidden_before += hidden;
  }
  return outputs;
}

template <class Id, class Loop>
void span_corruption(const Loop& loop, const Rows& rows, const Text<Id>& text, const Widths& widths,
                     Id* inputs, Id* targets) {
  loop(rows.count, grain(text.width, 32768), [&](int64_t begin, int64_t end) {
    Stretches stretches;
    for (int64_t row = begin; row < end; ++row) {
      const int64_t length = rows.length(row);
      const Noise noise = text.noise(length);
      const Id* const ids = text.ids + row * text.width;
      Outputs<Id> outputs{{inputs + row * widths.inputs, widths.inputs},
                          {targets + row * widths.targets, widths.targets}};
      if (noise.spans == 0) {
        outputs.input.template copy<1>(ids, length, ids + text.width);
      } else {
        stretches.draw(rows.key, rows.sample(row), noise, length);
        outputs =
            corrupt_row(text, ids, noise.spans, stretches.kept.data(), stretches.hidden.data(), outputs);
      }
      outputs.input.finish(text.eos_id, text.pad_id);
      outputs.target.finish(text.eos_id, text.pad_id);
    }
  });
}

}  // namespace sslkernels::spans
