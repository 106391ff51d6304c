// Sequences laid into rows of a fixed length: best-fit decreasing (Johnson, SIAM J. Comput. 1974). Of rows
// equally full the one filled last is taken.
#pragma once

#include <map>
#include <numeric>

#include "core.h"

namespace sslkernels::tokens {

struct Segment {
  int64_t graph, begin, length;  // graph and begin: -1 and the padding token's place for padding
};

// The segments, row after row, each row filled to `capacity` by padding.
inline std::vector<Segment> best_fit(const int64_t* ptr, int64_t graphs, int64_t length, int64_t capacity) {
  check_ptr("ptr", ptr, graphs, length);
  const auto size = [&](int64_t graph) { return ptr[graph + 1] - ptr[graph]; };
  for (int64_t graph = 0; graph < graphs; ++graph) {
    if (size(graph) > capacity) {
      fail("graph " + number(graph) + " has " + number(size(graph)) +
           " tokens, more than max_tokens = " + number(capacity));
    }
  }
  std::vector<int64_t> order(graphs);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return size(a) > size(b); });
  std::vector<std::vector<int64_t>> rows;
  std::map<int64_t, std::vector<int64_t>> by_space;  // rows with so much left
  for (const int64_t graph : order) {
    int64_t space = capacity, row = static_cast<int64_t>(rows.size());
    const auto fitting = by_space.lower_bound(size(graph));
    if (fitting != by_space.end()) {
      space = fitting->first;
      row = fitting->second.back();
      fitting->second.pop_back();
      if (fitting->second.empty()) by_space.erase(fitting);
    } else {
      rows.emplace_back();
    }
    rows[row].push_back(graph);
    by_space[space - size(graph)].push_back(row);
  }
  std::vector<Segment> segments;
  for (const std::vector<int64_t>& row : rows) {
    int64_t left = capacity;
    for (const int64_t graph : row) {
      segments.push_back({graph, ptr[graph], size(graph)});
      left -= size(graph);
    }
    if (left > 0) segments.push_back({-1, length, left});
  }
  return segments;
}

}  // namespace sslkernels::tokens
