// What a mask says, in the three forms of a result: flags, the list of the visible, each cell's place.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "common/philox_lanes.h"

namespace sslkernels::patches {

// Where a frame is written. The visible cells of all frames come first, in order, then the hidden ones.
struct Layout {
  int64_t* keep;            // of the mask's visible cells
  int64_t* restore;         // of this frame's cells
  int64_t first;            // number of the frame's first cell
  int64_t visible, masked;  // places that are taken already
};

// Lays out `n` cells, hidden[i] in {0, 1}; returns how many are visible. `spare` has room for n + 1 numbers.
[[maybe_unused]] static int64_t lay_out_plain(const uint8_t* hidden, int64_t n, const Layout& to,
                                              int64_t* spare) {
  int64_t found = 0, masked = to.masked;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t is_hidden = hidden[i], shown = to.visible + found;
    to.restore[i] = shown ^ ((shown ^ masked) & -is_hidden);
    spare[found] = to.first + i;  // overwritten by the next one that is visible
    masked += is_hidden;
    found += 1 - is_hidden;
  }
  std::copy_n(spare, found, to.keep + to.visible);
  return found;
}

#if defined(SSLK_X86)
[[maybe_unused]] SSLK_AVX512 static int64_t lay_out_avx512(const uint8_t* hidden, int64_t n, const Layout& to,
                                                           int64_t* /*spare*/) {
  constexpr int64_t kWide = 8;
  const __m512i steps = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
  int64_t visible = to.visible, masked = to.masked;
  for (int64_t i = 0; i < n; i += kWide) {
    const __mmask8 inside = n - i >= kWide ? 0xFF : static_cast<__mmask8>((1 << (n - i)) - 1);
    const __m128i flags = _mm_maskz_loadu_epi8(inside, hidden + i);
    const __mmask8 away = static_cast<__mmask8>(_mm_test_epi8_mask(flags, flags));
    const __mmask8 shown = static_cast<__mmask8>(inside & ~away);
    const __m512i shown_places = _mm512_add_epi64(_mm512_set1_epi64(visible), steps);
    const __m512i away_places = _mm512_add_epi64(_mm512_set1_epi64(masked), steps);
    const __m512i places =
        _mm512_mask_expand_epi64(_mm512_maskz_expand_epi64(shown, shown_places), away, away_places);
    _mm512_mask_storeu_epi64(to.restore + i, inside, places);
    const __m512i cells = _mm512_add_epi64(_mm512_set1_epi64(to.first + i), steps);
    const int count = std::popcount(shown);
    _mm512_mask_storeu_epi64(to.keep + visible, static_cast<__mmask8>((1 << count) - 1),
                             _mm512_maskz_compress_epi64(shown, cells));
    visible += count;
    masked += std::popcount(away);
  }
  return visible - to.visible;
}
#endif

[[maybe_unused]] static int64_t lay_out(const uint8_t* hidden, int64_t n, const Layout& to, int64_t* spare) {
#if defined(SSLK_X86)
  static const auto variant = fitting(lay_out_plain, lay_out_plain, lay_out_avx512);
#else
  constexpr auto variant = lay_out_plain;
#endif
  return variant(hidden, n, to, spare);
}

}  // namespace sslkernels::patches
