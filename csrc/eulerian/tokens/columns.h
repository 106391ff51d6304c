// Which columns of an edge_index are the two directions of one edge, features respected.
//
// The walk pairs the k-th (u, v) with the k-th (v, u). Where the features of every such pair are equal, a
// graph's columns are handed on as they are. Where some are not, columns pair up only with columns of equal
// features (again the k-th with the k-th), and the graph is handed on with one column an edge, smaller end
// first, which the walk can pair with nothing.
#pragma once

#include <utility>

#include "core.h"

namespace sslkernels::tokens {

struct Graphs {  // a batch as its tensors hold it
  const int64_t *from, *to;
  int64_t columns, graphs;
  const int64_t* graph_ptr;
  const int64_t* features;  // (columns, width)
  int64_t width;
};

struct WalkColumns {  // what the walk gets, `ptr[graphs]` columns in all
  int64_t *from, *to, *column;
  int32_t* kind;
};

// Scratch of one range of graphs.
struct PairScratch {
  std::vector<int64_t> order, buffer, count;
};

class ColumnPairs {
 public:
  explicit ColumnPairs(const Graphs& graphs)
      : graphs_(graphs),
        begin_(graphs.graphs + 1, 0),
        partner_(graphs.columns, -1),
        rewritten_(graphs.graphs, 0) {}

  // Pairs the columns of every graph up; returns ptr of the walk's columns.
  template <class Loop>
  std::vector<int64_t> find(const Loop& loop) {
    split();
    loop(graphs_.graphs, kGrain, [&](int64_t first, int64_t last) {
      PairScratch scratch;
      for (int64_t graph = first; graph < last; ++graph) pair_graph(graph, scratch);
    });
    std::vector<int64_t> ptr(graphs_.graphs + 1, 0);
    for (int64_t graph = 0; graph < graphs_.graphs; ++graph) {
      int64_t kept = begin_[graph + 1] - begin_[graph];
      if (rewritten_[graph]) {
        for (int64_t c = begin_[graph]; c < begin_[graph + 1]; ++c) kept -= is_second(c);
      }
      ptr[graph + 1] = ptr[graph] + kept;
    }
    return ptr;
  }

  template <class Loop>
  void write(const Loop& loop, const int64_t* ptr, const WalkColumns& walk) const {
    loop(graphs_.graphs, kGrain, [&](int64_t first, int64_t last) {
      for (int64_t graph = first; graph < last; ++graph) {
        rewritten_[graph] ? write_edges(graph, ptr[graph], walk) : copy(graph, ptr[graph], walk);
      }
    });
  }

 private:
  bool is_second(int64_t c) const { return partner_[c] >= 0 && partner_[c] < c; }
  bool is_loop(int64_t c) const { return graphs_.from[c] == graphs_.to[c]; }

  // begin_: where each graph's columns begin; they lie in the order of the graphs.
  void split() {
    check_ptr("graph_ptr", graphs_.graph_ptr, graphs_.graphs, graphs_.graph_ptr[graphs_.graphs]);
    int64_t c = 0;
    for (int64_t graph = 0; graph < graphs_.graphs; ++graph) {
      const int64_t end = graphs_.graph_ptr[graph + 1];
      while (c < graphs_.columns && graphs_.from[c] < end) ++c;
      begin_[graph + 1] = c;
    }
    if (c < graphs_.columns) check_column(c, 0, graphs_.graph_ptr[graphs_.graphs]);
  }

  void check_column(int64_t c, int64_t low, int64_t high) const {
    const int64_t ends[] = {graphs_.from[c], graphs_.to[c]};
    for (int64_t row = 0; row < 2; ++row) {
      if (ends[row] < low || ends[row] >= high) {
        fail("edge_index[" + number(row) + ", " + number(c) + "] is " + number(ends[row]) + ", outside [" +
             number(low) + ", " + number(high) +
             "): columns go in the order of the graphs and join nodes of one");
      }
    }
  }

  void pair_graph(int64_t graph, PairScratch& scratch) {
    const int64_t begin = begin_[graph], end = begin_[graph + 1];
    const int64_t low = graphs_.graph_ptr[graph], high = graphs_.graph_ptr[graph + 1];
    for (int64_t c = begin; c < end; ++c) check_column(c, low, high);
    if (pair_neighbours(begin, end) || pair_sorted(begin, end, low, high - low, scratch)) return;
    sort_columns(begin, end, low, high - low, scratch);
    for_each_run(scratch.order, [&](int64_t first, int64_t last) { pair_run(graph, first, last, scratch); });
    if (!rewritten_[graph]) return;
    std::fill(partner_.begin() + begin, partner_.begin() + end, -1);
    for_each_run(scratch.order, [&](int64_t first, int64_t last) { match_run(first, last, scratch); });
  }

  // The usual order, (u, v) beside its (v, u), throughout: nothing needs sorting. Says whether it was so.
  bool pair_neighbours(int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end;) {
      if (is_loop(c)) {
        ++c;
        continue;
      }
      if (!is_reverse(c, c + 1, end)) {
        std::fill(partner_.begin() + begin, partner_.begin() + end, -1);
        return false;
      }
      partner_[c] = c + 1;
      partner_[c + 1] = c;
      c += 2;
    }
    return true;
  }

  // The order of a coalesced edge_index, by source and target: where every edge has both columns, the next
  // column of v not met so far is (v, u) when (u, v) with u < v comes by. Says whether it was so.
  bool pair_sorted(int64_t begin, int64_t end, int64_t low, int64_t nodes, PairScratch& scratch) {
    std::vector<int64_t>& next = scratch.count;
    next.assign(nodes, end);
    for (int64_t c = end; c-- > begin;) {
      next[graphs_.from[c] - low] = c;
      if (c > begin &&
          std::pair(graphs_.from[c], graphs_.to[c]) < std::pair(graphs_.from[c - 1], graphs_.to[c - 1])) {
        return false;
      }
    }
    for (int64_t c = begin; c < end; ++c) {
      const int64_t u = graphs_.from[c], v = graphs_.to[c], other = next[v - low];
      if (u > v ? partner_[c] < 0 : !is_reverse(c, other, end)) {
        std::fill(partner_.begin() + begin, partner_.begin() + end, -1);
        return false;
      }
      if (u < v) join(c, other);
      if (u <= v) ++next[v - low];
    }
    return true;
  }

  bool is_reverse(int64_t c, int64_t other, int64_t end) const {
    return other < end && graphs_.from[other] == graphs_.to[c] && graphs_.to[other] == graphs_.from[c] &&
           compare(c, other) == 0;
  }

  // order: the graph's columns by (smaller end, larger end, column): two counting sorts.
  void sort_columns(int64_t begin, int64_t end, int64_t low, int64_t nodes, PairScratch& scratch) const {
    scratch.buffer.resize(end - begin);
    scratch.order.resize(end - begin);
    for (int64_t c = begin; c < end; ++c) scratch.order[c - begin] = c;
    for (const bool larger : {true, false}) {
      const auto key = [&](int64_t c) {
        const int64_t u = graphs_.from[c], v = graphs_.to[c];
        return (larger ? std::max(u, v) : std::min(u, v)) - low;
      };
      scratch.count.assign(nodes + 1, 0);
      for (const int64_t c : scratch.order) ++scratch.count[key(c) + 1];
      for (int64_t node = 0; node < nodes; ++node) scratch.count[node + 1] += scratch.count[node];
      for (const int64_t c : scratch.order) scratch.buffer[scratch.count[key(c)]++] = c;
      std::swap(scratch.order, scratch.buffer);
    }
  }

  template <class Body>
  void for_each_run(const std::vector<int64_t>& order, Body&& body) const {
    const int64_t size = static_cast<int64_t>(order.size());
    for (int64_t first = 0; first < size;) {
      int64_t last = first + 1;
      while (last < size && joins_the_same(order[first], order[last])) ++last;
      if (!is_loop(order[first])) body(first, last);
      first = last;
    }
  }

  bool joins_the_same(int64_t a, int64_t b) const {
    return std::minmax(graphs_.from[a], graphs_.to[a]) == std::minmax(graphs_.from[b], graphs_.to[b]);
  }

  // The k-th (u, v) of a run with its k-th (v, u); notes whether some pair has unlike features.
  void pair_run(int64_t graph, int64_t first, int64_t last, const PairScratch& scratch) {
    const std::vector<int64_t>& order = scratch.order;
    const int64_t source = graphs_.from[order[first]];
    int64_t a = first, b = first;
    while (true) {
      while (a < last && graphs_.from[order[a]] != source) ++a;
      while (b < last && graphs_.from[order[b]] == source) ++b;
      if (a >= last || b >= last) return;
      join(order[a], order[b]);
      if (compare(order[a++], order[b++]) != 0) rewritten_[graph] = 1;
    }
  }

  // The same among equal features only. Reorders the run.
  void match_run(int64_t first, int64_t last, PairScratch& scratch) {
    int64_t* const begin = scratch.order.data() + first;
    int64_t* const end = scratch.order.data() + last;
    const int64_t source = graphs_.from[*begin];
    int64_t* const middle =
        std::stable_partition(begin, end, [&](int64_t c) { return graphs_.from[c] == source; });
    const auto less = [&](int64_t x, int64_t y) { return compare(x, y) < 0; };
    std::stable_sort(begin, middle, less);
    std::stable_sort(middle, end, less);
    const int64_t *a = begin, *b = middle;
    while (a < middle && b < end) {
      const int order = compare(*a, *b);
      if (order == 0) join(*a, *b);
      a += order <= 0;
      b += order >= 0;
    }
  }

  void join(int64_t a, int64_t b) {
    partner_[a] = b;
    partner_[b] = a;
  }

  int compare(int64_t a, int64_t b) const {
    const int64_t *x = graphs_.features + a * graphs_.width, *y = graphs_.features + b * graphs_.width;
    for (int64_t f = 0; f < graphs_.width; ++f) {
      if (x[f] != y[f]) return x[f] < y[f] ? -1 : 1;
    }
    return 0;
  }

  void copy(int64_t graph, int64_t at, const WalkColumns& walk) const {
    const int64_t begin = begin_[graph], count = begin_[graph + 1] - begin;
    std::copy_n(graphs_.from + begin, count, walk.from + at);
    std::copy_n(graphs_.to + begin, count, walk.to + at);
    for (int64_t i = 0; i < count; ++i) {
      walk.column[at + i] = begin + i;
      walk.kind[at + i] = partner_[begin + i] >= 0 ? kPair : kLone;
    }
  }

  void write_edges(int64_t graph, int64_t at, const WalkColumns& walk) const {
    for (int64_t c = begin_[graph]; c < begin_[graph + 1]; ++c) {
      if (is_second(c)) continue;
      const bool turned = graphs_.from[c] > graphs_.to[c];
      walk.from[at] = turned ? graphs_.to[c] : graphs_.from[c];
      walk.to[at] = turned ? graphs_.from[c] : graphs_.to[c];
      walk.column[at] = c;
      walk.kind[at++] = partner_[c] >= 0 ? kPair : turned ? kTurned : kLone;
    }
  }

  Graphs graphs_;
  std::vector<int64_t> begin_, partner_;
  std::vector<uint8_t> rewritten_;
};

}  // namespace sslkernels::tokens
