// Patches selected by an index, and the sums of their gradients.
//
// The forward copies bytes. A gradient is the sum over the places of one index in their order: the places
// are counted and sorted first, so that no thread adds to another's rows and the bits do not depend on them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "common/accumulate.h"
#include "common/simd.h"

namespace sslkernels::patches {

constexpr int64_t kCopied = 1 << 16;  // bytes that are worth a thread

// Position of the first index outside [0, limit); -1: there is none.
template <class Id>
int64_t find_outside(const Id* index, int64_t n, int64_t limit) {
  using Unsigned = std::make_unsigned_t<Id>;
  if (sizeof(Id) == 4) limit = std::min(limit, int64_t{1} << 31);  // past every index
  const Unsigned bound = static_cast<Unsigned>(limit);
  for (int64_t begin = 0; begin < n; begin += 1024) {
    const int64_t end = std::min<int64_t>(n, begin + 1024);
    int64_t outside = 0;
    for (int64_t i = begin; i < end; ++i) outside += static_cast<Unsigned>(index[i]) >= bound;
    for (int64_t i = begin; outside > 0 && i < end; ++i) {
      if (static_cast<Unsigned>(index[i]) >= bound) return i;
    }
  }
  return -1;
}

// rows x entries: out[r, i] = source[r, index[r, i]], or `fill` where the index is `limit` or more.
template <class Loop, class Id>
void copy_rows(const Loop& loop, const char* source, const Id* index, const char* fill, int64_t rows,
               int64_t entries, int64_t limit, int64_t bytes, char* out) {
  if (bytes == 0) return;  // then the pointers may be null
  const int64_t grain = std::max<int64_t>(1, kCopied / bytes);
  loop(rows * entries, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = i / entries, at = index[i];
      const char* const from = at < limit ? source + (row * limit + at) * bytes : fill;
      std::memcpy(out + i * bytes, from, static_cast<size_t>(bytes));
    }
  });
}

template <class T>
SSLK_CLONES static void add(const T* __restrict from, int64_t n, Accumulate<T>* __restrict sum) {
  for (int64_t i = 0; i < n; ++i) sum[i] += static_cast<Accumulate<T>>(from[i]);
}

// The places of each index of one row, in their order: order[begin[c] .. begin[c + 1]).
template <class Id>
struct Places {
  std::vector<int64_t> begin, order;

  void sort(const Id* index, int64_t entries, int64_t limit) {
    begin.assign(static_cast<size_t>(limit + 2), 0);
    order.resize(static_cast<size_t>(entries));
    for (int64_t i = 0; i < entries; ++i) {
      if (index[i] < limit) ++begin[index[i] + 2];
    }
    for (int64_t c = 0; c < limit; ++c) begin[c + 2] += begin[c + 1];
    for (int64_t i = 0; i < entries; ++i) {
      if (index[i] < limit) order[begin[index[i] + 1]++] = i;
    }
  }
};

// (rows, entries, columns) -> (rows, limit, columns): sums of the entries of one index; an index of `limit`
// or more belongs to none. Few long rows are shared out by columns.
template <class Loop, class T, class Id>
void sum_by_index(const Loop& loop, const T* grad, const Id* index, int64_t rows, int64_t entries,
                  int64_t limit, int64_t columns, T* out) {
  const int64_t width = rows >= 16 ? std::max<int64_t>(columns, 1) : 128;
  const int64_t parts = (columns + width - 1) / width;
  const int64_t cost = std::max<int64_t>(1, (entries + limit) * std::min(width, columns));
  loop(rows * parts, std::max<int64_t>(1, kCopied / 4 / cost), [&](int64_t first, int64_t last) {
    Places<Id> places;
    std::vector<Accumulate<T>> sum(static_cast<size_t>(width));
    for (int64_t item = first; item < last; ++item) {
      const int64_t row = item / parts, left = item % parts * width, n = std::min(width, columns - left);
      if (item == first || left == 0) places.sort(index + row * entries, entries, limit);
      for (int64_t c = 0; c < limit; ++c) {
        const int64_t begin = places.begin[c], count = places.begin[c + 1] - begin;
        T* const to = out + (row * limit + c) * columns + left;
        const auto from = [&](int64_t i) {
          return grad + (row * entries + places.order[begin + i]) * columns + left;
        };
        if (count == 0) {
          std::fill_n(to, n, T(0));
        } else if (count == 1) {
          std::copy_n(from(0), n, to);
        } else {
          std::fill_n(sum.data(), n, Accumulate<T>(0));
          for (int64_t i = 0; i < count; ++i) add(from(i), n, sum.data());
          for (int64_t i = 0; i < n; ++i) to[i] = static_cast<T>(sum[i]);
        }
      }
    }
  });
}

// The sum of grad (rows, entries, columns) over all places whose index is `kept` or more: first over each
// row, then over the rows, so that the order does not depend on the threads.
template <class Loop, class T, class Id>
void sum_hidden(const Loop& loop, const T* grad, const Id* index, int64_t rows, int64_t entries, int64_t kept,
                int64_t columns, T* out) {
  using Float = Accumulate<T>;
  std::vector<Float> sums(static_cast<size_t>(rows * columns), Float(0));
  const int64_t cost = std::max<int64_t>(1, entries * columns);
  loop(rows, std::max<int64_t>(1, kCopied / 4 / cost), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t i = row * entries; i < (row + 1) * entries; ++i) {
        if (index[i] >= kept) add(grad + i * columns, columns, sums.data() + row * columns);
      }
    }
  });
  std::vector<double> total(static_cast<size_t>(columns), 0.0);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < columns; ++i) total[i] += static_cast<double>(sums[row * columns + i]);
  }
  for (int64_t i = 0; i < columns; ++i) out[i] = static_cast<T>(static_cast<Float>(total[i]));
}

}  // namespace sslkernels::patches
