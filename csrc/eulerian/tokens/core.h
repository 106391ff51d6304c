// The vocabulary and the grammar of graph tokens, shared by encode.h and decode.h. columns.h finds which
// columns of an edge_index are the two directions of one edge; sslkernels/eulerian/README.md has the grammar.
//
//   0 pad  1 bos  2 eos  3 mask  4 jump  5 start  6 seen  7 both  8 forward  9 backward
//   then `scope` node ids, then the categories of each node feature, then those of each edge feature
//
//   stacked   a row a step: [id | node attributes | entry | edge attributes]; where the entry is no new edge,
//             it also fills the edge attributes
//   flat      step = entry id [node attributes, at the node's first visit]
//             entry = nothing at the first step | jump | seen | [both, forward or backward] edge attributes
//
// An entry says how a step was reached: `both` by an edge of two columns, `forward` along a lone column,
// `backward` against one, `seen` by an edge walked before. A self-loop is `forward`. Without edge_direction
// every new edge is `both`, which the flat layout does not write.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

namespace sslkernels::tokens {

constexpr int32_t kJump = 4, kStart = 5, kSeen = 6, kBoth = 7, kForward = 8, kBackward = 9, kFirstId = 10;

// What a column of the walked edge_index is.
enum Column : int32_t { kLone = 0, kPair = 1, kTurned = 2 };  // kTurned: lone, its ends exchanged

constexpr int64_t kGrain = 32;  // graphs a range of a parallel loop holds at least

inline std::string number(int64_t value) { return std::to_string(value); }

[[noreturn]] inline void fail(const std::string& message) { throw std::invalid_argument(message); }

struct Vocabulary {
  int64_t scope;
  bool stacked, direction;
  std::vector<int64_t> node_sizes, edge_sizes;  // categories of each feature
  std::vector<int32_t> node_begin, edge_begin;  // first token of each feature

  Vocabulary(int64_t scope, bool stacked, bool direction, std::vector<int64_t> nodes,
             std::vector<int64_t> edges)
      : scope(scope),
        stacked(stacked),
        direction(direction),
        node_sizes(std::move(nodes)),
        edge_sizes(std::move(edges)) {
    if (scope < 1 || scope > kLargest) fail("scope must lie in [1, 2^30], got " + number(scope));
    int64_t next = kFirstId + scope;
    for (const int64_t size : node_sizes) next = append(node_begin, next, size, "node_sizes");
    for (const int64_t size : edge_sizes) next = append(edge_begin, next, size, "edge_sizes");
  }

  int64_t node_columns() const { return static_cast<int64_t>(node_sizes.size()); }
  int64_t edge_columns() const { return static_cast<int64_t>(edge_sizes.size()); }
  int64_t row() const { return 2 + node_columns() + edge_columns(); }  // tokens a stacked step
  // The entry of a new self-loop.
  int32_t loop() const { return direction ? kForward : kBoth; }

 private:
  static constexpr int64_t kLargest = int64_t{1} << 30;

  static int64_t append(std::vector<int32_t>& begin, int64_t next, int64_t size, const char* name) {
    if (size < 1 || next + size > 2 * kLargest - 1) {
      fail(std::string(name) + " must be at least 1 and the vocabulary below 2^31, got " + number(size));
    }
    begin.push_back(static_cast<int32_t>(next));
    return next + size;
  }
};

// Offsets must start at 0, never fall, and end at `end`.
inline void check_ptr(const char* name, const int64_t* ptr, int64_t count, int64_t end) {
  for (int64_t i = 0; i <= count; ++i) {
    const int64_t before = i == 0 ? 0 : ptr[i - 1];
    if (ptr[i] < before || (i == 0 && ptr[0] != 0)) {
      fail(std::string(name) + " must start at 0 and never fall, got " + name + "[" + number(i) +
           "] = " + number(ptr[i]));
    }
  }
  if (ptr[count] != end) {
    fail(std::string(name) + " must end at " + number(end) + ", got " + number(ptr[count]));
  }
}

}  // namespace sslkernels::tokens
