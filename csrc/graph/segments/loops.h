// The arithmetic of segment softmax on numbers of the accumulation type, in vector registers.
//
// Lanes: `rows` segments' rows lie below one another, a lane for each column of each segment. Tiles: one
// segment as it lies in memory, some of its columns at once. Both do the same operations in the same order to
// every column, so that a segment's result does not depend on which of them it meets.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "../../common/exponential.h"

namespace sslkernels {

// -- lanes ----------------------------------------------------------------------------------------------

// x = x - its lane's maximum. A lane of -inf keeps its -inf, so that its exponentials are 0. A NaN may be
// passed over here: it is in the sum, and so makes the whole lane NaN.
template <class A>
SSLK_CLONES static void shift_lanes(A* __restrict x, int64_t rows, int64_t lanes, A* __restrict top) {
  constexpr A kLowest = -std::numeric_limits<A>::infinity();
  for (int64_t l = 0; l < lanes; ++l) top[l] = kLowest;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t l = 0; l < lanes; ++l) {
      const A value = x[row * lanes + l];
      top[l] = value > top[l] ? value : top[l];
    }
  }
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t l = 0; l < lanes; ++l) x[row * lanes + l] -= top[l] == kLowest ? A(0) : top[l];
  }
}

// x = x / its lane's sum; 0 where the sum is.
template <class A>
SSLK_CLONES static void divide_lanes(A* __restrict x, int64_t rows, int64_t lanes, A* __restrict sum) {
  for (int64_t l = 0; l < lanes; ++l) sum[l] = x[l];
  for (int64_t row = 1; row < rows; ++row) {
    for (int64_t l = 0; l < lanes; ++l) sum[l] += x[row * lanes + l];
  }
  for (int64_t l = 0; l < lanes; ++l) sum[l] = sum[l] == A(0) ? A(0) : A(1) / sum[l];
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t l = 0; l < lanes; ++l) x[row * lanes + l] *= sum[l];
  }
}

// -- tiles ----------------------------------------------------------------------------------------------

// W numbers in a register or more, whatever the instruction set.
template <class A, int W>
struct Pack {
  typedef A Type __attribute__((vector_size(W * sizeof(A))));
};
template <class A>
struct Pack<A, 1> {
  using Type = A;
};

template <class V, class A>
SSLK_INLINE void load(const A* from, V& value) {
  std::memcpy(&value, from, sizeof(V));
}
template <class V, class A>
SSLK_INLINE void store(const V& value, A* to) {
  std::memcpy(to, &value, sizeof(V));
}

// Calls body(a pack, first column) for tiles that cover the columns.
template <class A, class Body>
SSLK_INLINE void for_tiles(int64_t columns, Body&& body) {
  int64_t first = 0;
  for (; first + 16 <= columns; first += 16) body(typename Pack<A, 16>::Type{}, first);
  for (; first + 8 <= columns; first += 8) body(typename Pack<A, 8>::Type{}, first);
  for (; first + 4 <= columns; first += 4) body(typename Pack<A, 4>::Type{}, first);
  for (; first < columns; ++first) body(A{}, first);
}

// top = the largest of each of the tile's columns, and of what it was.
template <class V, class A>
SSLK_INLINE void raise(V& top, const A* x, int64_t rows, int64_t columns) {
  V value = top;
  for (int64_t row = 0; row < rows; ++row) {
    load(x + row * columns, value);
    top = value > top ? value : top;
  }
}

// The same for a single column: 16 rows at once, as their order does not matter.
template <class A>
SSLK_INLINE void raise_by_column(A& top, const A* x, int64_t rows) {
  typename Pack<A, 16>::Type wide = {};
  A parts[16];
  wide += top;
  raise(wide, x, rows / 16, 16);
  store(wide, parts);
  raise(top, parts, 16, 1);
  raise(top, x + rows / 16 * 16, rows % 16, 1);
}

template <class V, class A>
SSLK_INLINE void shift_tile(const V& zero, A* x, int64_t rows, int64_t columns) {
  const V lowest = zero - std::numeric_limits<A>::infinity();
  V top = lowest, value = zero;
  if constexpr (std::is_same_v<V, A>) {
    columns == 1 ? raise_by_column(top, x, rows) : raise(top, x, rows, columns);
  } else {
    raise(top, x, rows, columns);
  }
  top = top == lowest ? zero : top;
  for (int64_t row = 0; row < rows; ++row) {
    load(x + row * columns, value);
    value -= top;
    store(value, x + row * columns);
  }
}

// Rows that are summed one after the other: a lane has fewer. A longer segment's sum is one of such sums, as
// a single number would lose digits, and after 2^24 rows no longer grow.
constexpr int64_t kSummed = 1024;

// sum, 0 so far, becomes that of the groups' sums; body(sum, first, last) adds a group's rows to its own.
template <class V, class Body>
SSLK_INLINE void add_groups(V& sum, int64_t rows, Body&& body) {
  if (rows <= kSummed) return body(sum, 0, rows);
  for (int64_t first = 0; first < rows; first += kSummed) {
    V group = {};
    body(group, first, rows - first < kSummed ? rows : first + kSummed);
    sum += group;
  }
}

template <class V, class A>
SSLK_INLINE void divide_tile(const V& zero, A* x, int64_t rows, int64_t columns) {
  V sum = zero, value = zero;
  add_groups(sum, rows, [&](V& group, int64_t first, int64_t last) __attribute__((always_inline)) {
    for (int64_t row = first; row < last; ++row) {
      load(x + row * columns, value);
      group += value;
    }
  });
  sum = sum == zero ? zero : 1 / sum;
  for (int64_t row = 0; row < rows; ++row) {
    load(x + row * columns, value);
    value *= sum;
    store(value, x + row * columns);
  }
}

// grad_x = out * (grad_out - sum of grad_out * out over the segment).
template <class V, class A>
SSLK_INLINE void backward_tile(const V& zero, const A* grad_out, const A* out, int64_t rows, int64_t columns,
                               A* grad_x) {
  V inner = zero, grad = zero, weight = zero;
  add_groups(inner, rows, [&](V& group, int64_t first, int64_t last) __attribute__((always_inline)) {
    for (int64_t at = first * columns; at < last * columns; at += columns) {
      load(grad_out + at, grad);
      load(out + at, weight);
      group += grad * weight;
    }
  });
  for (int64_t at = 0; at < rows * columns; at += columns) {
    load(grad_out + at, grad);
    load(out + at, weight);
    grad = weight * (grad - inner);
    store(grad, grad_x + at);
  }
}

template <class A>
SSLK_CLONES static void shift_segment(A* x, int64_t rows, int64_t columns) {
  for_tiles<A>(columns, [&](const auto& zero, int64_t column)
                            __attribute__((always_inline)) { shift_tile(zero, x + column, rows, columns); });
}

template <class A>
SSLK_CLONES static void divide_segment(A* x, int64_t rows, int64_t columns) {
  for_tiles<A>(columns, [&](const auto& zero, int64_t column)
                            __attribute__((always_inline)) { divide_tile(zero, x + column, rows, columns); });
}

// The segments first .. last, whose elements begin at those of segment `first`.
template <class A, class Id>
SSLK_CLONES static void backward_segments(const A* grad_out, const A* out, const Id* ptr, int64_t first,
                                          int64_t last, int64_t columns, A* grad_x) {
  for_tiles<A>(columns, [&](const auto& zero, int64_t column) __attribute__((always_inline)) {
    for (int64_t s = first; s < last; ++s) {
      const int64_t at = (ptr[s] - ptr[first]) * columns + column;
      backward_tile(zero, grad_out + at, out + at, ptr[s + 1] - ptr[s], columns, grad_x + at);
    }
  });
}

}  // namespace sslkernels
