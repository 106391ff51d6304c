// From the columns of a graph to its incidence lists: columns pair up into edges, and each edge enters the
// lists of its ends, at a random place of each where the walk is to be shuffled.
#pragma once

#include <cstdint>

#include "../../common/bounds.h"
#include "words.h"

namespace sslkernels::walks {

// One graph's columns, as they lie in the batch.
template <class Id>
struct Columns {
  const Id *source, *target;  // at the graph's first column
  uint32_t count;
  int64_t first_node;  // batch id of the graph's node 0
  uint32_t nodes;

  SSLK_HOST_DEVICE uint32_t from(uint32_t c) const { return static_cast<uint32_t>(source[c] - first_node); }
  SSLK_HOST_DEVICE uint32_t to(uint32_t c) const { return static_cast<uint32_t>(target[c] - first_node); }
  SSLK_HOST_DEVICE bool inside(uint32_t c) const {
    const uint64_t first = static_cast<uint64_t>(first_node);  // any id minus any other, without overflow
    return static_cast<uint64_t>(source[c]) - first < nodes &&
           static_cast<uint64_t>(target[c]) - first < nodes;
  }
};

// How one graph is to be walked.
struct Manner {
  bool closed, shuffle;
  Key key;
  int64_t sample;
  int64_t start;  // node, -1: free
};

// Are all columns inside the graph? `sorted`: do they come by source, then by target?
template <class Id>
SSLK_HOST_DEVICE bool inspect(const Columns<Id>& columns, bool& sorted) {
  bool inside = true, ascending = true;
  for (uint32_t c = 0; c < columns.count; ++c) inside &= columns.inside(c);
  for (uint32_t c = 1; c < columns.count; ++c) {
    ascending &= (columns.source[c - 1] < columns.source[c]) | ((columns.source[c - 1] == columns.source[c]) &
                                                                (columns.target[c - 1] <= columns.target[c]));
  }
  sorted = ascending;
  return inside;
}

// Where every column (u, v) is followed by its (v, u), self-loops aside, neighbours are the pairs: the k-th
// with the k-th. Returns the number of edges; kNone where the columns lie otherwise or leave the graph.
template <class Id>
SSLK_HOST_DEVICE uint32_t pair_neighbours(const Columns<Id>& columns, Workspace& w) {
  const Id *source = columns.source, *target = columns.target;
  const uint32_t m = columns.count;
  uint32_t edges = 0;
  for (uint32_t c = 0; c < m;) {
    if (!IN_BOUNDS(columns.inside(c))) return kNone;
    const uint32_t last = source[c] == target[c] ? c : c + 1;
    if (!IN_BOUNDS(last < m)) return kNone;
    if (source[last] != target[c] || target[last] != source[c]) return kNone;
    w.first[edges++] = c;
    c = last + 1;
  }
  return edges;
}

// Stable counting sort of columns by `key`; begin[v] is then the place of the first with key v.
template <class Key>
SSLK_HOST_DEVICE void counting_sort(uint32_t count, uint32_t keys, const uint32_t* before, uint32_t* sorted,
                                    uint32_t* begin, Key&& key) {
  for (uint32_t v = 0; v <= keys; ++v) begin[v] = 0;
  for (uint32_t c = 0; c < count; ++c) ++begin[key(c)];
  for (uint32_t v = 0, sum = 0; v <= keys; ++v) {
    sum += begin[v];
    begin[v] = sum;
  }
  for (uint32_t i = count; sorted != nullptr && i-- > 0;) {
    const uint32_t c = before == nullptr ? i : before[i];
    sorted[--begin[key(c)]] = c;
  }
  for (uint32_t v = keys; sorted == nullptr && v > 0; --v) begin[v] = begin[v - 1];
  if (sorted == nullptr) begin[0] = 0;
}

// Pairs columns that come, by `at`, by source and target; begin[v] is the first with source v. The partners
// of u's columns to larger nodes lie each at the front of what is left of that node's columns, because u
// goes up.
template <class Id, class At>
SSLK_HOST_DEVICE void pair_sorted(const Columns<Id>& columns, Workspace& w, At&& at) {
  for (uint32_t v = 0; v < columns.nodes; ++v) w.cursor[v] = w.begin[v];
  for (uint32_t u = 0; u < columns.nodes; ++u) {
    const uint32_t end = w.begin[u + 1];
    uint32_t i = w.cursor[u];
    while (IN_BOUNDS(i < end) && columns.to(at(i)) <= u) ++i;
    for (; i < end; ++i) {
      const uint32_t c = at(i), v = columns.to(c), end_of_v = w.begin[v + 1];
      uint32_t p = w.cursor[v];
      while (IN_BOUNDS(p < end_of_v) && columns.to(at(p)) < u) ++p;
      if (IN_BOUNDS(p < end_of_v) && columns.to(at(p)) == u) {
        const uint32_t partner = at(p++);
        w.mate[c] = partner;
        w.mate[partner] = c;
      }
      w.cursor[v] = p;
    }
  }
}

// Pairs columns in any order; as pair_neighbours.
template <class Id>
SSLK_HOST_DEVICE uint32_t pair_any(const Columns<Id>& columns, Workspace& w) {
  bool sorted;
  if (!IN_BOUNDS(inspect(columns, sorted))) return kNone;
  const uint32_t m = columns.count, n = columns.nodes;
  const auto from = [&](uint32_t c) { return columns.from(c); };
  const auto to = [&](uint32_t c) { return columns.to(c); };
  for (uint32_t c = 0; c < m; ++c) w.mate[c] = c;
  if (sorted) {
    counting_sort(m, n, nullptr, nullptr, w.begin, from);
    pair_sorted(columns, w, [](uint32_t i) { return i; });
  } else {
    counting_sort(m, n, nullptr, w.first, w.begin, to);
    counting_sort(m, n, w.first, w.sorted, w.begin, from);
    pair_sorted(columns, w, [&](uint32_t i) { return w.sorted[i]; });
  }
  uint32_t edges = 0;
  for (uint32_t c = 0; c < m; ++c) {
    w.first[edges] = c;
    edges += w.mate[c] >= c;
  }
  return edges;
}

// Appends to the list whose header is at `begin`; the word, if any, draws an entry to change places with.
SSLK_HOST_DEVICE void enter(Slot* header, Slot slot, bool shuffle, uint32_t word) {
  const uint32_t length = header->edge++;
  const uint32_t place = shuffle ? bounded(word, length + 1) : length;
  header[1 + length] = header[1 + place];
  header[1 + place] = slot;
}

// Lays out the lists of `edges` edges: begin[v] counts the entries of node v on entry.
SSLK_HOST_DEVICE void lay_out(uint32_t nodes, Workspace& w) {
  uint32_t at = 0;
  for (uint32_t v = 0; v < nodes; ++v) {
    const uint32_t length = w.begin[v];
    w.begin[v] = at;
    w.slots[at] = Slot{v, 0};
    at += length + 1;
  }
  w.begin[nodes] = at;
}

SSLK_HOST_DEVICE void one_pass_each(uint32_t edges, Workspace& w) {
  for (uint32_t i = 0; i <= edges / 16; ++i) w.passes[i] = 0x55555555u;
}

// The undirected lists: edges in ascending order at both ends, a self-loop twice at its one. The k-th edge
// draws the words 2 k and 2 k + 1. Returns the number of edges, kNone where a column leaves the graph.
template <class Id>
SSLK_HOST_DEVICE uint32_t list_undirected(const Columns<Id>& columns, Workspace& w, const Manner& manner) {
  uint32_t edges = pair_neighbours(columns, w);
  if (edges == kNone) edges = pair_any(columns, w);
  if (edges == kNone) return kNone;
  for (uint32_t v = 0; v <= columns.nodes; ++v) w.begin[v] = 0;
  for (uint32_t k = 0; k < edges; ++k) {
    ++w.begin[columns.from(w.first[k])];
    ++w.begin[columns.to(w.first[k])];
  }
  lay_out(columns.nodes, w);
  one_pass_each(edges, w);
  EdgeWords words(manner.key, manner.sample);
  constexpr uint32_t kAhead = 16;
  for (uint32_t k = 0; k < edges; ++k) {
    if (IN_BOUNDS(k + kAhead < edges)) {
      const uint32_t c = w.first[k + kAhead];
      soon(&w.slots[w.begin[columns.from(c)]]);
      soon(&w.slots[w.begin[columns.to(c)]]);
    }
    const uint32_t u = columns.from(w.first[k]), v = columns.to(w.first[k]);
    enter(w.slots + w.begin[u], Slot{v, k}, manner.shuffle, manner.shuffle ? words.next() : 0);
    enter(w.slots + w.begin[v], Slot{u, k}, manner.shuffle, manner.shuffle ? words.next() : 0);
  }
  return edges;
}

// The ways out of each node of a directed graph; each column is an edge and draws the word of its number.
template <class Id>
SSLK_HOST_DEVICE uint32_t list_directed(const Columns<Id>& columns, Workspace& w, const Manner& manner) {
  bool sorted;
  if (!inspect(columns, sorted)) return kNone;
  for (uint32_t v = 0; v <= columns.nodes; ++v) w.begin[v] = 0;
  for (uint32_t c = 0; c < columns.count; ++c) ++w.begin[columns.from(c)];
  lay_out(columns.nodes, w);
  EdgeWords words(manner.key, manner.sample);
  for (uint32_t c = 0; c < columns.count; ++c) {
    w.first[c] = c;
    enter(w.slots + w.begin[columns.from(c)], Slot{columns.to(c), c}, manner.shuffle,
          manner.shuffle ? words.next() : 0);
  }
  return columns.count;
}

}  // namespace sslkernels::walks
