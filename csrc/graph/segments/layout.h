// Where the rows of neighbouring segments lie while they are worked on.
//
// Short segments of one length lie beside each other, so that loops over lanes are long and have a number of
// rows that does not change: a loop over the rows of one short segment after another is mispredicted at
// nearly each of them. Rows are copied there and back in the order they have in memory.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

namespace sslkernels {

// Rows up to which a segment is short; a segment of so many columns is worth a loop of its own.
constexpr int64_t kShortRows = 8, kWideColumns = 32;
// Lanes of the widest vector: what begins in the scratch begins at a multiple of it, and so ends the scratch,
// as the scalar remainder of a vector loop may round otherwise than the loop.
constexpr int64_t kVector = 16;

inline int64_t whole_vectors(int64_t numbers) { return (numbers + kVector - 1) / kVector * kVector; }

// `rows` rows of `width` numbers each: the lanes of short segments, or the columns of a long one.
struct Block {
  int64_t begin, rows, width;
};

class Layout {
 public:
  std::vector<Block> lanes, segments;
  int64_t size = 0;                // of the scratch
  const int32_t* place = nullptr;  // of each row: its first number in the scratch; null: one after the other

  template <class Id>
  void set(const Id* ptr, int64_t first, int64_t last, int64_t columns) {
    lanes.clear();
    segments.clear();
    size = 0;
    place = nullptr;
    if (columns >= kWideColumns || !set_lanes(ptr, first, last, columns)) {
      return set_in_place(ptr, first, last, columns);
    }
    const size_t most = ptr[last] - ptr[first] + kAhead;
    if (places_.size() < most) places_.resize(most);
    int32_t* at = places_.data();
    for (int64_t s = first; s < last; ++s) at = put(ptr[s + 1] - ptr[s], columns, at);
    place = places_.data();
  }

 private:
  // Places written whether there are as many rows or not: no branch to mispredict. Those too many are
  // overwritten by the next segment's.
  static constexpr int64_t kAhead = 4;

  template <class Id>
  void set_in_place(const Id* ptr, int64_t first, int64_t last, int64_t columns) {
    for (int64_t s = first; s < last; ++s) {
      if (ptr[s + 1] > ptr[s])
        segments.push_back({(ptr[s] - ptr[first]) * columns, ptr[s + 1] - ptr[s], columns});
    }
    size = whole_vectors((ptr[last] - ptr[first]) * columns);
  }

  // Whether it pays: most rows are in short segments.
  template <class Id>
  bool set_lanes(const Id* ptr, int64_t first, int64_t last, int64_t columns) {
    int64_t count[kShortRows + 2] = {};
    for (int64_t s = first; s < last; ++s) {
      const int64_t rows = ptr[s + 1] - ptr[s];
      ++count[rows <= kShortRows ? rows : kShortRows + 1];
    }
    int64_t short_rows = 0;
    for (int64_t rows = 1; rows <= kShortRows; ++rows) short_rows += rows * count[rows];
    if (2 * short_rows <= ptr[last] - ptr[first] || last == first + 1) return false;
    next_[0] = step_[0] = 0;
    for (int64_t rows = 1; rows <= kShortRows; ++rows) {
      const int64_t width = whole_vectors(count[rows] * columns);
      if (width > 0) lanes.push_back({size, rows, width});
      next_[rows] = static_cast<int32_t>(size);
      step_[rows] = static_cast<int32_t>(width);
      size += rows * width;
    }
    return true;
  }

  // Places of the next segment's rows.
  int32_t* put(int64_t rows, int64_t columns, int32_t* at) {
    int32_t begin, step;
    if (rows <= kShortRows) {
      begin = next_[rows];
      step = step_[rows];
      next_[rows] = begin + static_cast<int32_t>(columns);
    } else {
      begin = static_cast<int32_t>(size);
      step = static_cast<int32_t>(columns);
      segments.push_back({size, rows, columns});
      size = whole_vectors(size + rows * columns);
    }
    for (int64_t row = 0; row < kAhead; ++row) at[row] = begin + static_cast<int32_t>(row) * step;
    for (int64_t row = kAhead; row < rows; ++row) at[row] = begin + static_cast<int32_t>(row) * step;
    return at + rows;
  }

  std::vector<int32_t> places_;
  int32_t next_[kShortRows + 1], step_[kShortRows + 1];
};

// body(columns), as a number that the compiler knows where it is a frequent one.
template <class Body>
void with_columns(int64_t columns, Body&& body) {
  switch (columns) {
    case 1:
      return body(std::integral_constant<int64_t, 1>{});
    case 4:
      return body(std::integral_constant<int64_t, 4>{});
    case 8:
      return body(std::integral_constant<int64_t, 8>{});
    default:
      return body(columns);
  }
}

// to = from, `width` numbers. A known width goes through a local copy: then vector moves need not ask whether
// the two overlap.
template <class Width, class From, class To>
inline void move_row(const From* from, Width width, To* to) {
  if constexpr (std::is_same_v<Width, int64_t>) {
    for (int64_t c = 0; c < width; ++c) to[c] = static_cast<To>(from[c]);
  } else {
    To row[Width::value];
    for (int64_t c = 0; c < width; ++c) row[c] = static_cast<To>(from[c]);
    std::memcpy(to, row, sizeof(row));
  }
}

// The rows of x, widened, at their places.
template <class T, class A>
void fill(const Layout& layout, const T* x, int64_t rows, int64_t columns, A* scratch) {
  const int32_t* const place = layout.place;
  if (place == nullptr) return move_row(x, rows * columns, scratch);
  with_columns(columns, [=](auto width) {
    for (int64_t row = 0; row < rows; ++row) move_row(x + row * width, width, scratch + place[row]);
  });
}

// The other way.
template <class T, class A>
void drain(const Layout& layout, const A* scratch, int64_t rows, int64_t columns, T* out) {
  const int32_t* const place = layout.place;
  if (place == nullptr) return move_row(scratch, rows * columns, out);
  with_columns(columns, [=](auto width) {
    for (int64_t row = 0; row < rows; ++row) move_row(scratch + place[row], width, out + row * width);
  });
}

}  // namespace sslkernels
