// Softmax over the segments of ragged rows, column by column, on the CPU.
//
// x is (rows, columns) row-major; segment s holds the rows ptr[s] .. ptr[s + 1]. A segment is short against a
// core's cache, so it is read once, exponentiated in a scratch of the accumulation type, and written once;
// neighbouring segments share a scratch, so that the exponentials run over one long array.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "../../common/exponential.h"

namespace sslkernels {

// Sums and exponentials of 16-bit inputs have 32 bits.
template <class T>
using Accumulate = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <class Id>
void check_ptr(const Id* ptr, int64_t segments, int64_t rows) {
  const auto text = [&](int64_t at) {
    return "ptr[" + std::to_string(at) + "] is " + std::to_string(ptr[at]);
  };
  if (ptr[0] != 0) throw std::invalid_argument(text(0) + ", it must be 0");
  for (int64_t s = 0; s < segments; ++s) {
    if (ptr[s + 1] < ptr[s]) throw std::invalid_argument(text(s + 1) + ", less than the entry before it");
  }
  if (ptr[segments] != rows) {
    throw std::invalid_argument(text(segments) + ", it must be the number of rows, " + std::to_string(rows));
  }
}

// Elements of a scratch: a share of the first-level cache.
constexpr int64_t kScratch = 4096;

// Calls body(first, end) for runs of segments that together have at most kScratch elements, or one segment.
template <class Id, class Body>
void for_runs(const Id* ptr, int64_t begin, int64_t end, int64_t columns, Body&& body) {
  for (int64_t first = begin; first < end;) {
    int64_t last = first + 1;
    while (last < end && (ptr[last + 1] - ptr[first]) * columns <= kScratch) ++last;
    body(first, last);
    first = last;
  }
}

// Calls body(width, first) for tiles of columns whose width is known when compiling: their running maxima and
// sums stay in vector registers.
template <class Body>
void for_tiles(int64_t columns, Body&& body) {
  int64_t first = 0;
  for (; first + 8 <= columns; first += 8) body(std::integral_constant<int, 8>{}, first);
  for (; first + 4 <= columns; first += 4) body(std::integral_constant<int, 4>{}, first);
  for (; first < columns; ++first) body(std::integral_constant<int, 1>{}, first);
}

// body(width, first element, rows) for every tile of the segments begin .. end.
template <class Id, class Body>
void for_segments(const Id* ptr, int64_t begin, int64_t end, int64_t columns, Body&& body) {
  for_tiles(columns, [&](auto width, int64_t column) {
    for (int64_t s = begin; s < end; ++s) body(width, ptr[s] * columns + column, ptr[s + 1] - ptr[s]);
  });
}

// scratch = x - the segment's maximum, a column at a time. A column of -inf keeps its -inf, so that its
// exponentials are 0; NaN anywhere makes the maximum NaN, and so the whole column.
template <int W, class T, class Float>
void shift_by_maximum(const T* x, int64_t rows, int64_t columns, Float* scratch) {
  constexpr Float kLowest = -std::numeric_limits<Float>::infinity();
  Float maximum[W];
  std::fill_n(maximum, W, kLowest);
  for (int64_t row = 0; row < rows; ++row) {
    for (int c = 0; c < W; ++c) {
      const Float value = static_cast<Float>(x[row * columns + c]);
      maximum[c] = (value > maximum[c]) | (value != value) ? value : maximum[c];
    }
  }
  for (int c = 0; c < W; ++c) maximum[c] = maximum[c] == kLowest ? Float{0} : maximum[c];
  for (int64_t row = 0; row < rows; ++row) {
    for (int c = 0; c < W; ++c) {
      scratch[row * columns + c] = static_cast<Float>(x[row * columns + c]) - maximum[c];
    }
  }
}

// out = scratch / its sum; 0 where the sum is.
template <int W, class T, class Float>
void divide_by_sum(const Float* scratch, int64_t rows, int64_t columns, T* out) {
  Float sum[W] = {};
  for (int64_t row = 0; row < rows; ++row) {
    for (int c = 0; c < W; ++c) sum[c] += scratch[row * columns + c];
  }
  for (int c = 0; c < W; ++c) sum[c] = sum[c] == Float{0} ? Float{0} : Float{1} / sum[c];
  for (int64_t row = 0; row < rows; ++row) {
    for (int c = 0; c < W; ++c) out[row * columns + c] = static_cast<T>(scratch[row * columns + c] * sum[c]);
  }
}

// Segments a thread takes at least, so that its work outweighs its start.
inline int64_t grain_of(int64_t segments, int64_t elements) {
  return std::max<int64_t>(1, kScratch * segments / std::max<int64_t>(elements, 1));
}

template <class Loop, class T, class Id>
void segment_softmax(const Loop& loop, const T* x, const Id* ptr, int64_t segments, int64_t columns, T* out) {
  const auto softmax_run = [&](int64_t first, int64_t last, std::vector<Accumulate<T>>& scratch) {
    const int64_t base = ptr[first] * columns;
    scratch.resize(ptr[last] * columns - base);
    for_segments(ptr, first, last, columns, [&](auto width, int64_t at, int64_t rows) {
      shift_by_maximum<width()>(x + at, rows, columns, scratch.data() + at - base);
    });
    exponentiate(scratch.data(), static_cast<int64_t>(scratch.size()));
    for_segments(ptr, first, last, columns, [&](auto width, int64_t at, int64_t rows) {
      divide_by_sum<width()>(scratch.data() + at - base, rows, columns, out + at);
    });
  };
  loop(segments, grain_of(segments, ptr[segments] * columns), [&](int64_t begin, int64_t end) {
    std::vector<Accumulate<T>> scratch;
    for_runs(ptr, begin, end, columns,
             [&](int64_t first, int64_t last) { softmax_run(first, last, scratch); });
  });
}

// grad_x = out * (grad_out - sum of grad_out * out over the segment).
template <int W, class T>
void softmax_backward(const T* grad_out, const T* out, int64_t rows, int64_t columns, T* grad_x) {
  using Float = Accumulate<T>;
  Float inner[W] = {};
  for (int64_t row = 0; row < rows; ++row) {
    for (int c = 0; c < W; ++c) {
      const int64_t at = row * columns + c;
      inner[c] += static_cast<Float>(grad_out[at]) * static_cast<Float>(out[at]);
    }
  }
  for (int64_t row = 0; row < rows; ++row) {
    for (int c = 0; c < W; ++c) {
      const int64_t at = row * columns + c;
      const Float centred = static_cast<Float>(grad_out[at]) - inner[c];
      grad_x[at] = static_cast<T>(static_cast<Float>(out[at]) * centred);
    }
  }
}

template <class Loop, class T, class Id>
void segment_softmax_backward(const Loop& loop, const T* grad_out, const T* out, const Id* ptr,
                              int64_t segments, int64_t columns, T* grad_x) {
  loop(segments, grain_of(segments, ptr[segments] * columns), [&](int64_t begin, int64_t end) {
    for_segments(ptr, begin, end, columns, [&](auto width, int64_t at, int64_t rows) {
      softmax_backward<width()>(grad_out + at, out + at, rows, columns, grad_x + at);
    });
  });
}

}  // namespace sslkernels
