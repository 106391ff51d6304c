// What corrupt_tokens does before it replaces, in one pass over the ids: for AVX-512, where every cell is a
// unit of its own and few ranges of ids are special. Its plain variant are the stages of core.h, which give
// the same in more time, and which csrc/instruction_sets/compare.cpp holds it to.
#pragma once

#include <bit>
#include <cstdint>

#include "common/instruction_sets.h"
#include "common/philox_lanes.h"
#include "request.h"
#include "specials.h"

namespace sslkernels::tokens {

// From the ids of n cells and whether their words choose them: which are selected, a copy of the ids, the
// labels (but for "changed", which waits for what is replaced) and the places of the selected ones. `places`
// holds n entries, rounded up to a multiple of kLanes.
template <class Id>
struct Cells {
  const Id* ids;
  const uint8_t* words_choose;
  int64_t n;
  Labels labels;
  int64_t ignore_index;
  Id* found;
  int64_t* scored;
  uint8_t* selected;
  uint32_t* places;
};

#if defined(SSLK_X86)

// Vectors of 16 ids: as they are, and their low halves, which tell them apart where all fit in 32 bits.
template <class Id>
struct SixteenIds {
  static constexpr int kVectors = sizeof(Id) / 4, kEach = 16 / kVectors;
  __m512i whole[kVectors], low;
};

template <bool kAll, class T>
SSLK_AVX512 SSLK_INLINE __m512i load_some(const T* from, uint32_t inside) {
  if constexpr (kAll) return _mm512_loadu_si512(from);
  if constexpr (sizeof(T) == 8) return _mm512_maskz_loadu_epi64(static_cast<__mmask8>(inside), from);
  return _mm512_maskz_loadu_epi32(static_cast<__mmask16>(inside), from);
}

// A masked store of all lanes costs more than a plain one.
template <bool kAll, class T>
SSLK_AVX512 SSLK_INLINE void store_some(T* to, uint32_t inside, __m512i value) {
  if constexpr (kAll) {
    _mm512_storeu_si512(to, value);
  } else if constexpr (sizeof(T) == 8) {
    _mm512_mask_storeu_epi64(to, static_cast<__mmask8>(inside), value);
  } else {
    _mm512_mask_storeu_epi32(to, static_cast<__mmask16>(inside), value);
  }
}

template <bool kAll, class Id>
SSLK_AVX512 SSLK_INLINE SixteenIds<Id> load_ids(const Id* from, uint32_t inside) {
  SixteenIds<Id> ids;
  ids.whole[0] = load_some<kAll>(from, inside);
  ids.low = ids.whole[0];
  if constexpr (sizeof(Id) == 8) {
    ids.whole[1] = load_some<kAll>(from + 8, inside >> 8);
    const __m256i first = _mm512_maskz_cvtepi64_epi32(0xFF, ids.whole[0]);
    const __m256i second = _mm512_maskz_cvtepi64_epi32(0xFF, ids.whole[1]);
    ids.low = _mm512_maskz_inserti64x4(0xFF, _mm512_castsi256_si512(first), second, 1);
  }
  return ids;
}

// Half 0 or 1 of the ids, in 64 bits.
template <class Id>
SSLK_AVX512 SSLK_INLINE __m512i wide_half(const SixteenIds<Id>& ids, int half) {
  if constexpr (sizeof(Id) == 8) return ids.whole[half];
  const __m256i own = half == 0 ? _mm512_maskz_extracti64x4_epi64(0xFF, ids.low, 0)
                                : _mm512_maskz_extracti64x4_epi64(0xFF, ids.low, 1);
  return _mm512_maskz_cvtepi32_epi64(0xFF, own);
}

template <class Id>
struct Marker {
  const Cells<Id> cells;
  const FewRanges few;
  int64_t listed = 0;
  uint32_t outside = 0;  // bits of ordinary ids outside the vocabulary
  __m512i seen;          // of ids in 64 bits: their sums with 2^31, which lie below 2^32 where they fit

  // Cells i .. i + 15; kAll: none of them lies behind the end.
  template <bool kAll>
  SSLK_AVX512 SSLK_INLINE void mark(int64_t i) {
    constexpr __mmask8 kHalf = 0xFF;
    const uint32_t inside = kAll ? 0xFFFF : (1u << (cells.n - i)) - 1;
    const SixteenIds<Id> ids = load_ids<kAll>(cells.ids + i, inside);
    if constexpr (sizeof(Id) == 8) {
      for (const __m512i& whole : ids.whole)
        seen = _mm512_or_si512(seen, _mm512_add_epi64(whole, _mm512_set1_epi64(0x80000000)));
    }
    uint32_t special = 0;
    for (size_t range = 0; range < few.count; ++range) {
      const __m512i from_low = _mm512_sub_epi32(ids.low, _mm512_set1_epi32(static_cast<int>(few.low[range])));
      special |= _mm512_cmple_epu32_mask(from_low, _mm512_set1_epi32(static_cast<int>(few.width[range])));
    }
    const uint32_t ordinary = inside & ~special;
    const __m512i vocabulary = _mm512_set1_epi32(static_cast<int>(few.vocabulary));
    outside |= ordinary & _mm512_cmpge_epu32_mask(ids.low, vocabulary);
    const __m128i flags = _mm_maskz_loadu_epi8(static_cast<__mmask16>(inside), cells.words_choose + i);
    const uint32_t set = ordinary & _mm_test_epi8_mask(flags, flags);

    const __m128i bytes = _mm_maskz_set1_epi8(static_cast<__mmask16>(set), 1);
    if constexpr (kAll) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(cells.selected + i), bytes);
    } else {
      _mm_mask_storeu_epi8(cells.selected + i, static_cast<__mmask16>(inside), bytes);
    }
    for (int v = 0; v < SixteenIds<Id>::kVectors; ++v) {
      const int at = v * SixteenIds<Id>::kEach;
      store_some<kAll>(cells.found + i + at, inside >> at, ids.whole[v]);
    }
    const bool original = cells.labels == Labels::kOriginal;
    const uint32_t scores = original ? set : ordinary, ones = cells.labels == Labels::kSelected ? set : 0;
    for (int half = 0; half < 2; ++half) {
      const auto one = static_cast<__mmask8>(ones >> 8 * half),
                 own = static_cast<__mmask8>(scores >> 8 * half);
      const __m512i flag = _mm512_maskz_set1_epi64(one, 1);
      const __m512i label = _mm512_mask_mov_epi64(flag, original ? kHalf : 0, wide_half(ids, half));
      const __m512i scored = _mm512_mask_mov_epi64(_mm512_set1_epi64(cells.ignore_index), own, label);
      store_some<kAll>(cells.scored + i + 8 * half, inside >> 8 * half, scored);
    }
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i all = _mm512_add_epi32(lanes, _mm512_set1_epi32(static_cast<int>(i)));
    _mm512_storeu_si512(cells.places + listed, _mm512_maskz_compress_epi32(static_cast<__mmask16>(set), all));
    listed += std::popcount(set);
  }
};

// Returns how many are selected; -1 where an id does not fit in 32 bits, or an ordinary one lies outside the
// vocabulary.
template <class Id>
SSLK_AVX512 static int64_t mark_cells_avx512(const Cells<Id>& cells, const FewRanges& few) {
  Marker<Id> marker{.cells = cells, .few = few, .seen = _mm512_setzero_si512()};
  int64_t i = 0;
  for (; i + 16 <= cells.n; i += 16) marker.template mark<true>(i);
  if (i < cells.n) marker.template mark<false>(i);
  const __m512i upper = _mm512_set1_epi64(static_cast<int64_t>(0xFFFFFFFF00000000u));
  if (marker.outside != 0 && few.vocabulary != FewRanges::kUnlimited) return -1;
  if (_mm512_test_epi64_mask(marker.seen, upper) != 0) return -1;
  return marker.listed;
}
#endif

inline bool can_mark() {
#if defined(SSLK_X86)
  static const bool has = has_avx512();
  return has;
#else
  return false;
#endif
}

// Only where can_mark() holds.
template <class Id>
int64_t mark_cells([[maybe_unused]] const Cells<Id>& cells, [[maybe_unused]] const FewRanges& few) {
#if defined(SSLK_X86)
  return mark_cells_avx512(cells, few);
#else
  return -1;
#endif
}

}  // namespace sslkernels::tokens
