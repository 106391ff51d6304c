// corrupt_tokens: choose units, top up, act, replace, in one pass over spans that stay in the cache.
//
// Every stage is a loop over a span of one sample; a span is a whole sample where units are groups or are
// counted, else at most kSpan positions, so that a long sample is shared among threads. What is drawn, and at
// which position, is listed in common/philox.h.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/philox_lanes.h"
#include "mark.h"
#include "replacement.h"
#include "request.h"
#include "specials.h"
#include "units.h"

namespace sslkernels::tokens {

// flag ? one : other, without a comparison: of a flag in a byte and numbers of 64 bits a compiler makes a
// vector loop of this alone.
SSLK_INLINE int64_t either(uint8_t flag, int64_t one, int64_t other) {
  return other ^ ((one ^ other) & -static_cast<int64_t>(flag));
}

// found[i] = ids[i], and the labels, except that "changed" still waits for what is replaced.
template <class Id>
SSLK_BYTE_CLONES static void label_ids(Labels labels, const Id* __restrict ids,
                                       const uint8_t* __restrict eligible, const uint8_t* __restrict selected,
                                       int64_t n, int64_t ignore_index, Id* __restrict found,
                                       int64_t* __restrict scored) {
  if (labels == Labels::kOriginal) {
    for (int64_t i = 0; i < n; ++i) scored[i] = either(selected[i], ids[i], ignore_index);
  } else {
    const int64_t counts = labels == Labels::kSelected ? 1 : 0;
    for (int64_t i = 0; i < n; ++i) scored[i] = either(eligible[i], selected[i] & counts, ignore_index);
  }
  std::memcpy(found, ids, static_cast<size_t>(n) * sizeof(Id));
}

// The places of the flags that are set; returns how many. `places` holds n entries, rounded up to a multiple
// of kLanes.
[[maybe_unused]] static int64_t list_set_plain(const uint8_t* flags, int64_t n, uint32_t* places) {
  int64_t listed = 0, i = 0;
  for (; i + 64 <= n; i += 64) {
    uint64_t bits = 0;
    for (int j = 0; j < 8; ++j) bits |= uint64_t{pack_flags(flags + i + 8 * j)} << (8 * j);
    for (; bits != 0; bits &= bits - 1) places[listed++] = static_cast<uint32_t>(i + std::countr_zero(bits));
  }
  for (; i < n; ++i) {
    places[listed] = static_cast<uint32_t>(i);
    listed += flags[i] != 0 ? 1 : 0;
  }
  return listed;
}

// Without branches in AVX-512, because how many of kLanes are set cannot be guessed.
#if defined(SSLK_X86)
[[maybe_unused]] SSLK_AVX512 static int64_t list_set_avx512(const uint8_t* flags, int64_t n,
                                                            uint32_t* places) {
  const __m512i first = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  int64_t listed = 0;
  for (int64_t i = 0; i < n; i += kLanes) {
    const __mmask16 inside = n - i >= kLanes ? 0xFFFF : static_cast<__mmask16>((1 << (n - i)) - 1);
    const __m128i some = _mm_maskz_loadu_epi8(inside, flags + i);
    const __mmask16 set = _mm_test_epi8_mask(some, some);
    const __m512i all = _mm512_add_epi32(first, _mm512_set1_epi32(static_cast<int>(i)));
    _mm512_storeu_si512(places + listed, _mm512_maskz_compress_epi32(set, all));
    listed += std::popcount(set);
  }
  return listed;
}
#endif

[[maybe_unused]] static int64_t list_set(const uint8_t* flags, int64_t n, uint32_t* places) {
#if defined(SSLK_X86)
  static const auto variant = fitting(list_set_plain, list_set_plain, list_set_avx512);
#else
  constexpr auto variant = list_set_plain;
#endif
  return variant(flags, n, places);
}

// Working space of one thread.
struct Workspace {
  // `positions` and `cells` are the most that a span has of them.
  Workspace(int64_t positions, int64_t cells, bool grouped)
      : eligible(cells),
        row_eligible(cells == positions ? 0 : positions),
        leads(positions),
        chosen(positions),
        flags(padded(positions, 4 * kLanes)),
        leader(grouped ? positions : 0),
        groups(grouped ? positions : 0),
        leaders(grouped ? positions : 0) {
    const int64_t drawn = padded(cells, kLanes);
    for (auto* buffer : {&places, &counters, &units, &actions, &token_words, &cluster_words, &drawn_ids}) {
      buffer->resize(static_cast<size_t>(drawn));
    }
  }

  std::vector<uint8_t> eligible, row_eligible, leads, chosen, flags;
  std::vector<uint32_t> words;
  std::vector<int32_t> leader;
  std::vector<int64_t> groups;
  Leaders leaders;
  std::vector<uint64_t> ranks;
  Ahead ahead;
  // an entry a selected cell
  std::vector<uint32_t> places, counters, units, actions, token_words, cluster_words, drawn_ids;
};

template <class Id>
class Corruptor {
 public:
  Corruptor(const Request<Id>& request, const Results<Id>& results)
      : request_(request),
        results_(results),
        specials_(request.special_ids),
        flagger_(specials_, request.vocab_size),
        whole_(request.grouped() || request.min_selected > 0 || request.row_min_selected != nullptr),
        marks_(can_mark() && !whole_ && request.columns == 1 && request.maskable == nullptr &&
               flagger_.few()) {
    check(request_);
    if (!request_.draws_random()) return;
    if (request_.clusters.cluster_of != nullptr) {
      cluster_draw_.emplace(request_.clusters, request_.exclude_original);
    } else {
      uniform_draw_.emplace(specials_, request_.vocab_size);
    }
  }

  template <class Loop>
  void run(const Loop& loop) {
    int64_t longest = 0;
    for (int64_t i = 0; i < request_.samples; ++i) longest = std::max(longest, request_.length_of(i));
    if (!whole_) longest = std::min(longest, kSpan);
    const std::vector<Span> parts = divide();
    const bool divided = !parts.empty();
    const int64_t items = divided ? static_cast<int64_t>(parts.size()) : request_.samples;
    const int64_t cells = request_.total * request_.columns;
    const int64_t grain = std::max<int64_t>(1, kGrain * items / std::max<int64_t>(1, cells));
    loop(items, grain, [&](int64_t begin, int64_t end) {
      Workspace space(longest, longest * request_.columns, request_.grouped());
      for (int64_t i = begin; i < end; ++i) {
        corrupt(divided ? parts[static_cast<size_t>(i)] : Span{i, 0, request_.length_of(i)}, space);
      }
    });
    if (results_.counts == nullptr) return;
    loop(request_.samples, std::max<int64_t>(1, 8 * grain), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) list_positions(i);
    });
  }

 private:
  static constexpr int64_t kSpan = 4096;    // a multiple of 4: a Philox call serves four positions
  static constexpr int64_t kGrain = 16384;  // cells that are worth a thread
  static constexpr uint64_t kCertain = uint64_t{1} << 32;

  struct Span {
    int64_t sample, first, end;  // positions of the sample
  };

  // Parts of long samples; empty where the samples themselves are shared out.
  std::vector<Span> divide() const {
    std::vector<Span> parts;
    if (whole_ || request_.samples * kSpan >= request_.total) return parts;
    for (int64_t i = 0; i < request_.samples; ++i) {
      const int64_t length = request_.length_of(i);
      for (int64_t first = 0; first < length; first += kSpan) {
        parts.push_back({i, first, std::min(length, first + kSpan)});
      }
    }
    return parts;
  }

  void corrupt(const Span& span, Workspace& space) const {
    const int64_t step = whole_ ? std::max<int64_t>(span.end, 1) : kSpan;
    for (int64_t first = span.first; first < span.end; first += step) {
      corrupt_part({span.sample, first, std::min(first + step, span.end)}, space);
    }
  }

  void corrupt_part(const Span& span, Workspace& space) const {
    const int64_t columns = request_.columns, cells = (span.end - span.first) * columns;
    const int64_t offset = (request_.begin_of(span.sample) + span.first) * columns;
    int64_t listed = marks_ ? mark(span, offset, space) : -1;
    if (listed < 0) {
      select(span, space);
      const auto* const selected = reinterpret_cast<const uint8_t*>(results_.selected + offset);
      listed = list_set(selected, cells, space.places.data());
    }
    draw_changes(span, listed, space);
    replace(offset, listed, space);
  }

  // Does what select() does and lists what is selected; -1 where it has to be done by stages.
  int64_t mark(const Span& span, int64_t offset, Workspace& space) const {
    const int64_t n = span.end - span.first;
    const uint64_t limit = request_.limit_of(span.sample);
    if (limit == 0 || limit >= kCertain) return -1;
    space.ahead = memory_after(offset, n);
    draw_choice(request_.key, request_.sample_id(span.sample), span.first, n, limit, space.flags.data(),
                &space.ahead);
    const Cells<Id> cells{request_.ids + offset,
                          space.flags.data(),
                          n,
                          request_.labels,
                          request_.ignore_index,
                          results_.found + offset,
                          results_.scored + offset,
                          reinterpret_cast<uint8_t*>(results_.selected + offset),
                          space.places.data()};
    return mark_cells(cells, *flagger_.few());
  }

  // What is selected, and the labels; ids are copied.
  void select(const Span& span, Workspace& space) const {
    const int64_t n = span.end - span.first, columns = request_.columns, cells = n * columns;
    const int64_t row = request_.begin_of(span.sample) + span.first, offset = row * columns;
    const uint8_t* const eligible = flag(span, offset, cells, space);
    space.ahead = memory_after(row, n);
    const uint8_t* const rows = columns == 1 ? eligible : any_column(eligible, n, space.row_eligible.data());
    uint8_t* const selected = reinterpret_cast<uint8_t*>(results_.selected + offset);
    uint8_t* const chosen = columns == 1 ? selected : space.chosen.data();
    choose_units(span, row, rows, n, space, chosen);
    if (columns > 1) {
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t j = i * columns; j < (i + 1) * columns; ++j) selected[j] = chosen[i] & eligible[j];
      }
    }
    label_ids(request_.labels, request_.ids + offset, eligible, selected, cells, request_.ignore_index,
              results_.found + offset, results_.scored + offset);
  }

  // Eligibility of every cell; throws where an ordinary id lies outside the vocabulary.
  const uint8_t* flag(const Span& span, int64_t offset, int64_t cells, Workspace& space) const {
    const bool given = request_.maskable != nullptr;
    if (!given || request_.vocab_size >= 0) {
      const int64_t bad = flagger_.flag(request_.ids + offset, cells, space.eligible.data());
      if (bad >= 0) throw_outside(span, offset, bad);
    }
    return given ? reinterpret_cast<const uint8_t*>(request_.maskable + offset) : space.eligible.data();
  }

  [[noreturn]] void throw_outside(const Span& span, int64_t offset, int64_t cell) const {
    const int64_t columns = request_.columns, at = offset + cell;
    std::string place = std::to_string(at / columns);
    if (request_.ptr == nullptr) {
      place = std::to_string(span.sample) + ", " + std::to_string(span.first + cell);
    } else if (columns > 1) {
      place += ", " + std::to_string(at % columns);
    }
    throw std::invalid_argument("ids[" + place + "] is " + std::to_string(request_.ids[at]) +
                                ", outside [0, " + std::to_string(request_.vocab_size) + ")");
  }

  const uint8_t* any_column(const uint8_t* eligible, int64_t n, uint8_t* rows) const {
    const int64_t columns = request_.columns;
    for (int64_t i = 0; i < n; ++i) {
      uint8_t any = 0;
      for (int64_t j = 0; j < columns; ++j) any |= eligible[i * columns + j];
      rows[i] = any;
    }
    return rows;
  }

  // What is read and written next, behind the n positions from `row` on: some of it beside each block of
  // words, all of it where 15 % are selected.
  Ahead memory_after(int64_t row, int64_t n) const {
    constexpr int64_t kShare = 48;  // positions a block
    const int64_t columns = request_.columns, next = (row + n) * columns, cells = kShare * columns;
    Ahead memory;
    memory.add(request_.ids + next, cells * static_cast<int64_t>(sizeof(Id)));
    memory.add(results_.found + next, cells * static_cast<int64_t>(sizeof(Id)));
    memory.add(results_.scored + next, cells * static_cast<int64_t>(sizeof(int64_t)));
    memory.add(results_.selected + next, cells);
    return memory;
  }

  // chosen[i]: is position i of the span selected?
  void choose_units(const Span& span, int64_t row, const uint8_t* eligible, int64_t n, Workspace& space,
                    uint8_t* chosen) const {
    const int64_t sample = request_.sample_id(span.sample), least = request_.least(span.sample);
    const uint64_t limit = request_.limit_of(span.sample);
    const uint8_t* leads = eligible;
    if (request_.grouped()) {
      space.leaders.find(groups_at(row, n, space.groups.data()), eligible, n, space.leader.data());
      mark_leaders(space.leader.data(), n, space.leads.data());
      leads = space.leads.data();
    }
    uint8_t* const units = request_.grouped() ? space.chosen.data() : chosen;
    if (limit > 0 && limit < kCertain) {
      draw_choice(request_.key, sample, span.first, n, limit, space.flags.data(), &space.ahead);
      and_flags(space.flags.data(), leads, n, units);
    } else if (limit == 0) {
      std::fill_n(units, n, uint8_t{0});
    } else {
      std::copy_n(leads, n, units);
    }
    const int64_t missing = least > 0 ? least - count(units, n) : 0;
    if (missing > 0) {
      space.words.resize(static_cast<size_t>(padded(n, 4 * kLanes)));
      draw_words(request_.key, sample, kTopUp, 0, (n + 3) / 4, space.words.data());
      top_up(space.words.data(), leads, n, missing, space.ranks, units);
    }
    if (request_.grouped()) follow_leaders(space.leader.data(), n, units, chosen);
  }

  // Where units and chosen are one array, a leader's own flag stays what it is.
  static void follow_leaders(const int32_t* leader, int64_t n, const uint8_t* units, uint8_t* chosen) {
    for (int64_t i = 0; i < n; ++i) chosen[i] = leader[i] < 0 ? 0 : units[leader[i]];
  }

  const int64_t* groups_at(int64_t row, int64_t n, int64_t* copy) const {
    if (request_.groups64 != nullptr) return request_.groups64 + row;
    std::copy_n(request_.groups32 + row, n, copy);
    return copy;
  }

  // The units of the selected cells; where a cell is a position, without divisions, which cost as much as
  // draws.
  void list_units(const Span& span, int64_t listed, Workspace& space) const {
    const uint32_t columns = static_cast<uint32_t>(request_.columns);
    const uint32_t* const places = space.places.data();
    uint32_t* const units = space.units.data();
    if (!request_.grouped()) {
      for (int64_t i = 0; i < listed; ++i) units[i] = static_cast<uint32_t>(span.first) + places[i] / columns;
    } else if (columns > 1) {
      for (int64_t i = 0; i < listed; ++i)
        units[i] = static_cast<uint32_t>(space.leader[places[i] / columns]);
    } else {
      for (int64_t i = 0; i < listed; ++i) units[i] = static_cast<uint32_t>(space.leader[places[i]]);
    }
  }

  // The words of the selected cells: one call serves action, token and cluster where a cell is its own unit.
  void draw_changes(const Span& span, int64_t listed, Workspace& space) const {
    const int64_t sample = request_.sample_id(span.sample), columns = request_.columns;
    const auto mask = static_cast<uint64_t>(request_.mask_limit);
    const auto random = static_cast<uint64_t>(request_.random_limit);
    const bool acts = !(mask == kCertain || random == 0 || (mask == 0 && random == kCertain));
    const uint32_t first = static_cast<uint32_t>(span.first * columns);
    const uint32_t* counters = space.places.data();
    if (first != 0) {
      for (int64_t i = 0; i < listed; ++i) space.counters[i] = first + space.places[i];
      counters = space.counters.data();
    }
    uint32_t* const actions = acts ? space.actions.data() : nullptr;
    uint32_t* const tokens = request_.draws_random() ? space.token_words.data() : nullptr;
    uint32_t* const clusters = cluster_draw_ ? space.cluster_words.data() : nullptr;
    const bool single = !request_.grouped() && columns == 1;
    if (acts && !single) {
      list_units(span, listed, space);
      draw_at(request_.key, sample, kAction, space.units.data(), listed, {actions, nullptr, nullptr});
    }
    if ((acts && single) || tokens != nullptr) {
      draw_at(request_.key, sample, kAction, counters, listed, {single ? actions : nullptr, tokens, clusters},
              &space.ahead);
    }
  }

  void replace(int64_t offset, int64_t listed, Workspace& space) const {
    const Id* const ids = request_.ids + offset;
    Id* const found = results_.found + offset;
    const auto mask = static_cast<uint64_t>(request_.mask_limit);
    const auto random = static_cast<uint64_t>(request_.random_limit);
    const Id mask_id = static_cast<Id>(request_.mask_id);
    const uint32_t* const places = space.places.data();
    uint32_t* const drawn = space.drawn_ids.data();
    if (cluster_draw_) {
      cluster_draw_->draw(space.cluster_words.data(), space.token_words.data(), ids, places, listed, drawn);
    } else if (uniform_draw_) {
      uniform_draw_->draw(space.token_words.data(), ids, places, listed, request_.exclude_original, drawn);
    }
    if (mask == 0 && random == kCertain) {
      for (int64_t i = 0; i < listed; ++i) found[places[i]] = static_cast<Id>(drawn[i]);
    } else {
      for (int64_t i = 0; i < listed; ++i) {  // as conditional moves: an action cannot be guessed
        const uint64_t action = space.actions[i];
        const Id kept = action < random ? static_cast<Id>(drawn[i]) : ids[places[i]];
        found[places[i]] = action < mask ? mask_id : kept;
      }
    }
    if (request_.labels != Labels::kChanged) return;
    int64_t* const scored = results_.scored + offset;
    for (int64_t i = 0; i < listed; ++i) scored[places[i]] = found[places[i]] != ids[places[i]];
  }

  void list_positions(int64_t sample) const {
    const int64_t n = request_.length_of(sample), columns = request_.columns, capacity = request_.capacity;
    const bool* const selected = results_.selected + request_.begin_of(sample) * columns;
    int32_t* const positions = results_.positions + sample * capacity;
    int64_t found = 0;
    for (int64_t i = 0; i < n; ++i) {
      bool any = false;
      for (int64_t j = 0; j < columns; ++j) any |= selected[i * columns + j];
      if (!any) continue;
      if (found < capacity) positions[found] = static_cast<int32_t>(i);
      ++found;
    }
    for (int64_t i = found; i < capacity; ++i) positions[i] = -1;
    results_.counts[sample] = static_cast<int32_t>(found);
  }

  Request<Id> request_;
  Results<Id> results_;
  Specials specials_;
  Flagger flagger_;
  bool whole_;  // a span is a whole sample
  bool marks_;  // one pass selects, copies, labels and lists
  std::optional<UniformDraw> uniform_draw_;
  std::optional<ClusterDraw> cluster_draw_;
};

}  // namespace sslkernels::tokens
