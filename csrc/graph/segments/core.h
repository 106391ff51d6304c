// Softmax over the segments of ragged rows, column by column, on the CPU.
//
// x is (rows, columns) row-major; segment s holds the rows ptr[s] .. ptr[s + 1]. Neighbouring segments that
// together fit into a core's cache are read once into a scratch of the accumulation type, where short ones
// lie side by side (layout.h), worked on there (loops.h), the exponentials in one long loop, and written
// once.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "../../common/accumulate.h"
#include "layout.h"
#include "loops.h"

namespace sslkernels {

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

// Elements of a run: a share of the first-level cache.
constexpr int64_t kRun = 4096;

// Calls body(first, end) for runs of at most kRun segments that together have at most kRun elements, or one.
template <class Id, class Body>
void for_runs(const Id* ptr, int64_t begin, int64_t end, int64_t columns, Body&& body) {
  const int64_t most_rows = columns > 0 ? kRun / columns : kRun;
  for (int64_t first = begin; first < end;) {
    const Id* const after = ptr + std::min(end, first + kRun) + 1;
    const auto too_many = [&](int64_t rows, Id at) { return rows < at - ptr[first]; };
    const int64_t last = std::upper_bound(ptr + first + 2, after, most_rows, too_many) - ptr - 1;
    body(first, last);
    first = last;
  }
}

// Memory of a thread that begins with a cache line.
template <class A>
class Lines {
 public:
  A* hold(int64_t n) {
    const size_t bytes = n * sizeof(A) + kLine;
    if (bytes_.size() < bytes) bytes_.resize(bytes);
    const auto at = reinterpret_cast<uintptr_t>(bytes_.data());
    return reinterpret_cast<A*>((at + kLine - 1) / kLine * kLine);
  }

 private:
  static constexpr uintptr_t kLine = 64;
  std::vector<std::byte> bytes_;
};

// Segments a thread takes at least, so that its work outweighs its start.
inline int64_t grain_of(int64_t segments, int64_t elements) {
  return std::max<int64_t>(1, kRun * segments / std::max<int64_t>(elements, 1));
}

template <class Loop, class T, class Id>
void segment_softmax(const Loop& loop, const T* x, const Id* ptr, int64_t segments, int64_t columns, T* out) {
  using A = Accumulate<T>;
  loop(segments, grain_of(segments, ptr[segments] * columns), [&](int64_t begin, int64_t end) {
    Layout layout;
    Lines<A> scratch, per_lane;
    for_runs(ptr, begin, end, columns, [&](int64_t first, int64_t last) {
      const int64_t at = ptr[first] * columns, rows = ptr[last] - ptr[first];
      layout.set(ptr, first, last, columns);
      A* const values = scratch.hold(layout.size);
      fill(layout, x + at, rows, columns, values);
      for (const Block& b : layout.lanes) {
        shift_lanes(values + b.begin, b.rows, b.width, per_lane.hold(b.width));
      }
      for (const Block& b : layout.segments) shift_segment(values + b.begin, b.rows, b.width);
      exponentiate(values, layout.size);
      for (const Block& b : layout.lanes) {
        divide_lanes(values + b.begin, b.rows, b.width, per_lane.hold(b.width));
      }
      for (const Block& b : layout.segments) divide_segment(values + b.begin, b.rows, b.width);
      drain(layout, values, rows, columns, out + at);
    });
  });
}

// 16-bit runs are widened; others are read and written where they are.
template <class Loop, class T, class Id>
void segment_softmax_backward(const Loop& loop, const T* grad_out, const T* out, const Id* ptr,
                              int64_t segments, int64_t columns, T* grad_x) {
  using A = Accumulate<T>;
  loop(segments, grain_of(segments, ptr[segments] * columns), [&](int64_t begin, int64_t end) {
    Lines<A> wide_grads, wide_outs;
    for_runs(ptr, begin, end, columns, [&](int64_t first, int64_t last) {
      const int64_t at = ptr[first] * columns, size = ptr[last] * columns - at;
      if constexpr (std::is_same_v<T, A>) {
        backward_segments(grad_out + at, out + at, ptr, first, last, columns, grad_x + at);
      } else {
        A *const grads = wide_grads.hold(size), *const outs = wide_outs.hold(size);
        move_row(grad_out + at, size, grads);
        move_row(out + at, size, outs);
        backward_segments(grads, outs, ptr, first, last, columns, grads);
        move_row(grads, size, grad_x + at);
      }
    });
  });
}

}  // namespace sslkernels
