// Rectangles of hidden tiles, as bits of a grid's rows, in integers alone.
//
// A rectangle lies around a tile that is still free, so that each hides at least one and every grid ends,
// whatever its shape; a mirrored grid meets a mirrored draw with the same probability, the cut of the last
// rectangle included. The reference in Python says the same in tensors.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "common/philox.h"
#include "common/simd.h"

namespace sslkernels::patches {

// Sides in tiles; logarithms of the aspect's ends to base 2, in 2^-16.
struct Shape {
  int64_t rows, columns, least, low, high;
};

struct Rectangle {
  int64_t top, left, height, width;
  uint32_t order;  // bit 0: column by column, 1: from below, 2: from the right
};

// 2^(y / 2^16) in 2^-16, out of 2^(1/2), 2^(1/4), ... in 30 bits; y / 2^16 lies in [-14, 14].
SSLK_INLINE int64_t power_of_two_fixed(int64_t y) {
  constexpr int64_t kRoots[16] = {1518500250, 1276901417, 1170923762, 1121280436, 1097253708, 1085434106,
                                  1079572136, 1076653033, 1075196443, 1074468888, 1074105294, 1073923544,
                                  1073832680, 1073787251, 1073764537, 1073753181};
  int64_t power = int64_t{1} << 30;
  for (int i = 0; i < 16; ++i) power = ((y >> (15 - i)) & 1) != 0 ? (power * kRoots[i]) >> 30 : power;
  return power >> (14 - (y >> 16));
}

// round(sqrt(square / 4)), halves up, within [1, most]; square < 2^62.
SSLK_INLINE int64_t side_of(int64_t square, int64_t most) {
  int64_t root = static_cast<int64_t>(std::sqrt(static_cast<double>(square)));  // off by one at most
  root -= root * root > square;
  root += (root + 1) * (root + 1) <= square;
  return std::clamp<int64_t>((root + 1) / 2, 1, most);
}

// First row (or column) of a side that holds `chosen`, uniform over the grid's room.
SSLK_INLINE int64_t place_side(int64_t chosen, int64_t side, int64_t sides, uint32_t word) {
  const int64_t low = std::max<int64_t>(chosen - side + 1, 0), high = std::min(chosen, sides - side);
  return low + bounded(word, static_cast<uint32_t>(high - low + 1));
}

// The free tiles of a grid: a row is `lanes` words, bit c % 64 of word c / 64 is column c.
struct FreeTiles {
  int64_t lanes;
  std::vector<uint64_t> bits;

  explicit FreeTiles(const Shape& shape)
      : lanes((shape.columns + 63) / 64), bits(static_cast<size_t>(lanes * shape.rows)) {}
};

// The members of `pool` (flags, rows x columns of them and 8 bytes behind) become the free tiles; returns how
// many they are.
[[maybe_unused]] SSLK_CLONES static int64_t to_free(const Shape& shape, const uint8_t* pool,
                                                    FreeTiles& free) {
  int64_t members = 0;
  for (int64_t row = 0; row < shape.rows; ++row) {
    const uint8_t* const flags = pool + row * shape.columns;
    for (int64_t lane = 0; lane < free.lanes; ++lane) {
      const int64_t first = 64 * lane, end = std::min<int64_t>(64, shape.columns - first);
      uint64_t bits = 0;
      for (int64_t i = 0; i < end; i += 8) bits |= uint64_t{pack_flags(flags + first + i)} << i;
      bits &= ~uint64_t{0} >> (64 - end);  // what belongs to the next row
      free.bits[row * free.lanes + lane] = bits;
      members += std::popcount(bits);
    }
  }
  return members;
}

// hidden[i] = 1 for the members of `pool` that are no longer free; both have 8 bytes behind.
[[maybe_unused]] SSLK_CLONES static void add_taken(const Shape& shape, const FreeTiles& free,
                                                   const uint8_t* pool, uint8_t* hidden) {
  for (int64_t row = 0; row < shape.rows; ++row) {
    for (int64_t lane = 0; lane < free.lanes; ++lane) {
      const int64_t first = 64 * lane, end = std::min<int64_t>(64, shape.columns - first);
      const uint64_t taken = ~free.bits[row * free.lanes + lane] & (~uint64_t{0} >> (64 - end));
      for (int64_t i = 0; i < end; i += 8) {
        const int64_t at = row * shape.columns + first + i;
        uint64_t members, found;
        std::memcpy(&members, pool + at, 8);
        std::memcpy(&found, hidden + at, 8);
        found |= members & unpack_flags(static_cast<uint8_t>(taken >> i));
        std::memcpy(hidden + at, &found, 8);
      }
    }
  }
}

// Row of the free tile number `rank`, its column in `column`.
SSLK_INLINE int64_t find_free(const FreeTiles& free, int64_t rank, int64_t* column) {
  int64_t at = 0;
  for (int64_t held; rank >= (held = std::popcount(free.bits[at])); ++at) rank -= held;
  uint64_t bits = free.bits[at];
  for (; rank > 0; --rank) bits &= bits - 1;
  *column = at % free.lanes * 64 + std::countr_zero(bits);
  return at / free.lanes;
}

// The bits of word `lane` within columns [left, left + width).
SSLK_INLINE uint64_t bits_within(int64_t left, int64_t width, int64_t lane) {
  const int64_t begin = std::max<int64_t>(left - 64 * lane, 0);
  const int64_t end = std::min<int64_t>(left + width - 64 * lane, 64);
  if (begin >= end) return 0;
  return (~uint64_t{0} >> (64 - (end - begin))) << begin;
}

SSLK_INLINE Rectangle draw_rectangle(const Shape& shape, Key key, int64_t sample, uint32_t position,
                                     int64_t left, int64_t free_tiles, const FreeTiles& free) {
  const Words drawn = draw(key, sample, kPatchShape, position);
  const Words placed = draw(key, sample, kPatchPlace, position);
  const int64_t smallest = std::min(shape.least, left);
  const int64_t area = smallest + bounded(drawn.word[0], static_cast<uint32_t>(left - smallest + 1));
  const uint32_t span = static_cast<uint32_t>(shape.high - shape.low + 1);
  const int64_t aspect = power_of_two_fixed(shape.low + bounded(drawn.word[1], span));
  Rectangle found;
  found.height = side_of((4 * area * aspect) >> 16, shape.rows);
  found.width = side_of((4 * area << 16) / aspect, shape.columns);
  int64_t column;
  const int64_t row = find_free(free, bounded(drawn.word[2], static_cast<uint32_t>(free_tiles)), &column);
  found.top = place_side(row, found.height, shape.rows, placed.word[0]);
  found.left = place_side(column, found.width, shape.columns, placed.word[1]);
  found.order = drawn.word[3];
  return found;
}

// Takes the first `count` free tiles of a rectangle in its order.
inline void cut(const Rectangle& shape, int64_t count, FreeTiles& free) {
  const bool turned = (shape.order & 1) != 0;
  const int64_t outer = turned ? shape.width : shape.height, inner = turned ? shape.height : shape.width;
  for (int64_t i = 0; i < outer; ++i) {
    for (int64_t j = 0; j < inner && count > 0; ++j) {
      const int64_t down = turned ? j : i, across = turned ? i : j;
      const int64_t row = shape.top + ((shape.order & 2) != 0 ? shape.height - 1 - down : down);
      const int64_t column = shape.left + ((shape.order & 4) != 0 ? shape.width - 1 - across : across);
      uint64_t& word = free.bits[row * free.lanes + column / 64];
      const uint64_t bit = uint64_t{1} << (column % 64);
      count -= (word & bit) != 0;
      word &= ~bit;
    }
  }
}

// Draws rectangles, numbered from *position on, until `left` of the `free_tiles` are taken.
[[maybe_unused]] SSLK_CLONES static void take_rectangles(const Shape& shape, Key key, int64_t sample,
                                                         uint32_t* position, int64_t left, int64_t free_tiles,
                                                         FreeTiles& free) {
  while (left > 0) {
    const Rectangle drawn = draw_rectangle(shape, key, sample, (*position)++, left, free_tiles, free);
    const int64_t first = drawn.left / 64, last = (drawn.left + drawn.width - 1) / 64;
    int64_t taken = 0;
    for (int64_t row = drawn.top; row < drawn.top + drawn.height; ++row) {
      for (int64_t lane = first; lane <= last; ++lane) {
        taken +=
            std::popcount(free.bits[row * free.lanes + lane] & bits_within(drawn.left, drawn.width, lane));
      }
    }
    if (taken > left) return cut(drawn, left, free);
    for (int64_t row = drawn.top; row < drawn.top + drawn.height; ++row) {
      for (int64_t lane = first; lane <= last; ++lane) {
        free.bits[row * free.lanes + lane] &= ~bits_within(drawn.left, drawn.width, lane);
      }
    }
    left -= taken;
    free_tiles -= taken;
  }
}

}  // namespace sslkernels::patches
