// deserialize: the columns of the graphs that walks have passed through.
#pragma once

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "checks.h"
#include "trail.h"

namespace sslkernels::walks {

// The arguments of deserialize.
struct Paths {
  const int32_t *nodes, *edges;  // (steps)
  int64_t steps;
  const int64_t* ptr;  // (graphs + 1)
  int64_t graphs;
  const int64_t* num_nodes;  // (graphs) or null: the largest node of a graph and one
  bool undirected;
};

// The columns of consecutive graphs.
struct ColumnPiece {
  int64_t first_graph;
  std::vector<int64_t> source, target;
};

// How many nodes graph g has; throws where a step is not one of a walk.
inline int64_t count_nodes(const Paths& paths, int64_t g) {
  int64_t nodes = 0;
  for (int64_t i = paths.ptr[g]; i < paths.ptr[g + 1]; ++i) {
    const int32_t node = paths.nodes[i], edge = paths.edges[i];
    const bool first = i == paths.ptr[g];
    if (first ? edge != kFirst : (edge < kJump || edge == kFirst)) {
      throw std::invalid_argument(entry("edges", i) + " is " + std::to_string(edge) +
                                  (first ? ", it must be -1 at the first step of a graph"
                                         : ", it must be a column or -2 after the first step of a graph"));
    }
    if (node < 0 || (paths.num_nodes != nullptr && node >= paths.num_nodes[g])) {
      const std::string most = paths.num_nodes == nullptr ? "2^31" : std::to_string(paths.num_nodes[g]);
      throw std::invalid_argument(entry("nodes", i) + " is " + std::to_string(node) + ", outside [0, " +
                                  most + ")");
    }
    nodes = std::max<int64_t>(nodes, int64_t{node} + 1);
  }
  if (paths.num_nodes == nullptr) return nodes;
  if (paths.num_nodes[g] < 0 || paths.num_nodes[g] > INT32_MAX) {
    throw std::invalid_argument(entry("num_nodes", g) + " is " + std::to_string(paths.num_nodes[g]) +
                                ", outside [0, 2^31)");
  }
  return paths.num_nodes[g];
}

// A step over an edge, by the edge's name.
struct NamedStep {
  int32_t name;
  int64_t step;
};

// One step of each edge of graph g, in the order of their names, into `found`; `table` is scratch.
inline void name_edges(const Paths& paths, int64_t g, std::vector<int64_t>& table,
                       std::vector<NamedStep>& found) {
  const auto check_same = [&](int64_t one, int64_t two) {
    const int32_t a = paths.nodes[one - 1], b = paths.nodes[one];
    const int32_t c = paths.nodes[two - 1], d = paths.nodes[two];
    if ((a == c && b == d) || (paths.undirected && a == d && b == c)) return;
    throw std::invalid_argument(entry("edges", two) + " is " + std::to_string(paths.edges[two]) +
                                ", which joins other nodes at step " + std::to_string(one));
  };
  found.clear();
  const int64_t begin = paths.ptr[g] + 1, end = paths.ptr[g + 1];
  int64_t low = INT32_MAX, high = -1, walked = 0;
  for (int64_t i = begin; i < end; ++i) {
    if (paths.edges[i] < 0) continue;
    low = std::min<int64_t>(low, paths.edges[i]);
    high = std::max<int64_t>(high, paths.edges[i]);
    ++walked;
  }
  if (walked == 0) return;
  if (high - low < 4 * walked + 64) {
    table.assign(static_cast<size_t>(high - low + 1), -1);
    for (int64_t i = begin; i < end; ++i) {
      if (paths.edges[i] < 0) continue;
      int64_t& place = table[static_cast<size_t>(paths.edges[i] - low)];
      if (place < 0) {
        place = i;
      } else {
        check_same(place, i);
      }
    }
    for (size_t name = 0; name < table.size(); ++name) {
      if (table[name] >= 0)
        found.push_back({static_cast<int32_t>(low + static_cast<int64_t>(name)), table[name]});
    }
    return;
  }
  for (int64_t i = begin; i < end; ++i) {  // names far apart: not from serialize, but allowed
    if (paths.edges[i] >= 0) found.push_back({paths.edges[i], i});
  }
  std::sort(found.begin(), found.end(), [](const NamedStep& a, const NamedStep& b) {
    return a.name != b.name ? a.name < b.name : a.step < b.step;
  });
  size_t kept = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    if (kept > 0 && found[kept - 1].name == found[i].name) {
      check_same(found[kept - 1].step, found[i].step);
    } else {
      found[kept++] = found[i];
    }
  }
  found.resize(kept);
}

inline void append_columns(const Paths& paths, int64_t first_node, const std::vector<NamedStep>& found,
                           ColumnPiece& piece) {
  for (const NamedStep& edge : found) {
    int64_t u = first_node + paths.nodes[edge.step - 1], v = first_node + paths.nodes[edge.step];
    if (paths.undirected && u > v) std::swap(u, v);
    piece.source.push_back(u);
    piece.target.push_back(v);
    if (!paths.undirected || u == v) continue;
    piece.source.push_back(v);
    piece.target.push_back(u);
  }
}

// All columns, in pieces in the order of the graphs; graph_ptr (graphs + 1) is filled.
template <class Loop>
std::vector<ColumnPiece> restore_columns(const Loop& loop, const Paths& paths, int64_t* graph_ptr) {
  check_ptr("ptr", paths.ptr, paths.graphs, paths.steps);
  loop(paths.graphs, 256, [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g) graph_ptr[g + 1] = count_nodes(paths, g);
  });
  graph_ptr[0] = 0;
  for (int64_t g = 0; g < paths.graphs; ++g) graph_ptr[g + 1] += graph_ptr[g];
  std::vector<ColumnPiece> pieces;
  std::mutex mutex;
  loop(paths.graphs, 256, [&](int64_t begin, int64_t end) {
    ColumnPiece piece{begin, {}, {}};
    std::vector<int64_t> table;
    std::vector<NamedStep> found;
    for (int64_t g = begin; g < end; ++g) {
      name_edges(paths, g, table, found);
      append_columns(paths, graph_ptr[g], found, piece);
    }
    const std::lock_guard<std::mutex> lock(mutex);
    pieces.push_back(std::move(piece));
  });
  std::sort(pieces.begin(), pieces.end(),
            [](const ColumnPiece& a, const ColumnPiece& b) { return a.first_graph < b.first_graph; });
  return pieces;
}

inline int64_t count_columns(const std::vector<ColumnPiece>& pieces) {
  int64_t columns = 0;
  for (const ColumnPiece& piece : pieces) columns += static_cast<int64_t>(piece.source.size());
  return columns;
}

// Lays the pieces out as edge_index (2, columns).
inline void lay_columns(const std::vector<ColumnPiece>& pieces, int64_t columns, int64_t* edge_index) {
  int64_t at = 0;
  for (const ColumnPiece& piece : pieces) {
    std::copy(piece.source.begin(), piece.source.end(), edge_index + at);
    std::copy(piece.target.begin(), piece.target.end(), edge_index + columns + at);
    at += static_cast<int64_t>(piece.source.size());
  }
}

}  // namespace sslkernels::walks
