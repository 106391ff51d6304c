// serialize over a batch: checks, threads, and where the walks are put. What happens to one graph is in
// trail.h (undirected) and directed.h; API and mathematics in sslkernels/eulerian/README.md.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "checks.h"
#include "directed.h"
#include "pages.h"
#include "trail.h"

namespace sslkernels::walks {

// The arguments of serialize; null pointers stand for absent ones.
template <class Id>
struct Batch {
  const Id* edge_index;  // (2, columns)
  int64_t columns;
  const int64_t* graph_ptr;  // (graphs + 1)
  int64_t graphs;
  const int64_t* edge_ptr;    // (graphs + 1) or null
  const int64_t* start;       // (graphs) or null
  const int64_t* sample_ids;  // (graphs) or null
  bool undirected, closed, shuffle;
  int64_t seed, step;

  SSLK_HOST_DEVICE const Id* source() const { return edge_index; }
  SSLK_HOST_DEVICE const Id* target() const { return edge_index + columns; }
  int64_t nodes(int64_t graph) const { return graph_ptr[graph + 1] - graph_ptr[graph]; }
};

// -- values
// --------------------------------------------------------------------------------------------------

constexpr int64_t kMostColumns = (int64_t{1} << 30) - 1;  // steps of a graph fit 32 bits

template <class Id>
void check_offsets(const Batch<Id>& batch) {
  check_ptr("graph_ptr", batch.graph_ptr, batch.graphs, -1);
  if (batch.edge_ptr != nullptr) check_ptr("edge_ptr", batch.edge_ptr, batch.graphs, batch.columns);
  if (batch.columns > kMostColumns) {
    throw std::invalid_argument("edge_index has " + std::to_string(batch.columns) + " columns, at most " +
                                std::to_string(kMostColumns) + " are allowed");
  }
  for (int64_t g = 0; g < batch.graphs; ++g) {
    if (batch.nodes(g) > kMostColumns) {
      throw std::invalid_argument("graph_ptr: graph " + std::to_string(g) + " has " +
                                  std::to_string(batch.nodes(g)) + " nodes, at most " +
                                  std::to_string(kMostColumns) + " are allowed");
    }
    if (batch.start != nullptr && (batch.start[g] < -1 || batch.start[g] >= batch.nodes(g))) {
      throw std::invalid_argument(entry("start", g) + " is " + std::to_string(batch.start[g]) +
                                  ", outside [-1, " + std::to_string(batch.nodes(g)) + ")");
    }
  }
}

// Says which column is wrong; called where a walk met one, so that the fast path only notes it.
template <class Id>
[[noreturn]] void explain_columns(const Batch<Id>& batch) {
  const int64_t all = batch.graph_ptr[batch.graphs];
  const auto column = [](int row, int64_t c) {
    return "edge_index[" + std::to_string(row) + ", " + std::to_string(c) + "]";
  };
  for (int64_t c = 0, g = 0; c < batch.columns; ++c) {
    const int64_t ends[2] = {batch.source()[c], batch.target()[c]};
    for (int row = 0; row < 2; ++row) {
      if (ends[row] >= 0 && ends[row] < all) continue;
      throw std::invalid_argument(column(row, c) + " is " + std::to_string(ends[row]) + ", outside [0, " +
                                  std::to_string(all) + ")");
    }
    if (batch.edge_ptr != nullptr) {
      while (c >= batch.edge_ptr[g + 1]) ++g;
    } else {
      while (ends[0] >= batch.graph_ptr[g + 1]) ++g;
    }
    for (int row = 0; row < 2; ++row) {
      if (ends[row] >= batch.graph_ptr[g] && ends[row] < batch.graph_ptr[g + 1]) continue;
      throw std::invalid_argument(column(row, c) + " is " + std::to_string(ends[row]) + ", outside graph " +
                                  std::to_string(g) + ", [" + std::to_string(batch.graph_ptr[g]) + ", " +
                                  std::to_string(batch.graph_ptr[g + 1]) +
                                  "): columns come in the order of the graphs and join nodes of one graph");
    }
  }
  throw std::invalid_argument("edge_index: its columns must come in the order of the graphs");
}

// -- memory
// --------------------------------------------------------------------------------------------------

// A thread's workspace, which grows to the largest graph it meets.
class Memory {
 public:
  Workspace& fit(int64_t nodes, int64_t columns) {
    if (block_ == nullptr || nodes > nodes_ || columns > columns_) {
      const int64_t more_nodes = std::max(nodes_, nodes + nodes / 4);
      const int64_t more_columns = std::max(columns_, columns + columns / 4);
      Workspace measured;
      const int64_t bytes = carve(measured, nullptr, more_nodes, more_columns);
      block_.reset(static_cast<char*>(::operator new(static_cast<size_t>(bytes), kAligned)));
      nodes_ = more_nodes;  // only now: where memory ran out, the block stays as large as it was
      columns_ = more_columns;
      prefer_huge_pages(block_.get(), bytes);
      carve(workspace_, block_.get(), nodes_, columns_);
    }
    return workspace_;
  }
  Directed& directed() { return directed_; }

 private:
  struct Free {
    void operator()(char* block) const { ::operator delete(block, kAligned); }
  };

  int64_t nodes_ = 64, columns_ = 256;
  std::unique_ptr<char, Free> block_;
  Workspace workspace_{};
  Directed directed_;
};

// The walks of consecutive graphs, one after another, until all sizes are known.
struct Piece {
  int64_t first_graph = 0, steps = 0, capacity = 0;
  std::unique_ptr<int32_t[], decltype(&std::free)> nodes{nullptr, &std::free}, edges{nullptr, &std::free};

  // Room for `more` steps behind those that are there.
  void reserve(int64_t more) {
    if (steps + more <= capacity) return;
    capacity = std::max(steps + more, capacity + capacity / 2);
    for (auto* array : {&nodes, &edges}) {
      void* grown = std::realloc(array->get(), static_cast<size_t>(capacity) * sizeof(int32_t));
      if (grown == nullptr) throw std::bad_alloc();
      (void)array->release();
      array->reset(static_cast<int32_t*>(grown));
    }
  }
};

// -- the batch
// -----------------------------------------------------------------------------------------------

// First column of `graph`, found by the sources where edge_ptr is not given.
template <class Id>
int64_t column_begin(const Batch<Id>& batch, int64_t graph) {
  if (batch.edge_ptr != nullptr) return batch.edge_ptr[graph];
  if (graph == 0) return 0;
  if (graph == batch.graphs) return batch.columns;
  const Id* sources = batch.source();
  return std::lower_bound(sources, sources + batch.columns, batch.graph_ptr[graph],
                          [](Id source, int64_t node) { return source < node; }) -
         sources;
}

// Walks graphs [first, last) into `piece` and notes their steps. Returns false where a column is wrong;
// `unclosed` becomes the first graph that has no closed walk.
template <class Id>
bool walk_range(const Batch<Id>& batch, int64_t first, int64_t last, Memory& memory, Piece& piece,
                int64_t* steps, int64_t& unclosed) {
  const Key key = stream_key(batch.seed, batch.step);
  int64_t column = column_begin(batch, first);
  for (int64_t g = first; g < last; ++g) {
    int64_t end = column;
    if (batch.edge_ptr != nullptr) {
      end = batch.edge_ptr[g + 1];
    } else {
      while (end < batch.columns && batch.source()[end] < batch.graph_ptr[g + 1]) ++end;
    }
    const Columns<Id> columns{batch.source() + column, batch.target() + column,
                              static_cast<uint32_t>(end - column), batch.graph_ptr[g],
                              static_cast<uint32_t>(batch.nodes(g))};
    const Manner manner{batch.closed, batch.shuffle, key,
                        batch.sample_ids == nullptr ? g : batch.sample_ids[g],
                        batch.start == nullptr ? -1 : batch.start[g]};
    Workspace& w = memory.fit(columns.nodes, columns.count);
    int64_t walked;
    if (batch.undirected) {
      piece.reserve(int64_t{2} * columns.count + columns.nodes);
      walked = walk_undirected(columns, column, w, manner, piece.nodes.get() + piece.steps,
                               piece.edges.get() + piece.steps);
    } else {
      walked = walk_directed(columns, column, w, manner, memory.directed(), piece);
    }
    if (walked == -1) return false;
    if (walked == -2) unclosed = std::min(unclosed, g);
    walked = std::max<int64_t>(walked, 0);
    steps[g] = walked;
    piece.steps += walked;
    column = end;
  }
  return column == column_begin(batch, last);
}

// The walks of a batch, in pieces; `ptr` (graphs + 1) gets the offsets.
template <class Loop, class Id>
std::vector<Piece> walk_batch(const Loop& loop, const Batch<Id>& batch, int64_t* ptr) {
  check_offsets(batch);
  std::vector<Piece> pieces;
  std::mutex mutex;
  int64_t unclosed = batch.graphs;
  bool right = batch.graphs > 0 || batch.columns == 0;
  // Graphs are shared out by their nodes: graph g has the places from graph_ptr[g] + g on.
  const auto place = [&](int64_t g) { return batch.graph_ptr[g] + g; };
  const auto graph_at = [&](int64_t at) {
    int64_t low = 0, high = batch.graphs;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (place(middle) < at) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  };
  loop(place(batch.graphs), 1024, [&](int64_t begin, int64_t end) {
    static thread_local Memory memory;
    Piece piece;
    piece.first_graph = graph_at(begin);
    const int64_t last = graph_at(end);
    if (piece.first_graph == last) return;
    int64_t open_graph = batch.graphs;
    const bool all_right = walk_range(batch, piece.first_graph, last, memory, piece, ptr + 1, open_graph);
    const std::lock_guard<std::mutex> lock(mutex);
    right &= all_right;
    unclosed = std::min(unclosed, open_graph);
    pieces.push_back(std::move(piece));
  });
  if (!right) explain_columns(batch);
  if (unclosed < batch.graphs) {
    throw std::invalid_argument("closed=True: graph " + std::to_string(unclosed) +
                                " has a component that is not strongly connected");
  }
  ptr[0] = 0;
  for (int64_t g = 0; g < batch.graphs; ++g) ptr[g + 1] += ptr[g];
  return pieces;
}

// Puts the pieces where they belong in nodes and edges (ptr[graphs] entries each).
template <class Loop>
void gather(const Loop& loop, const std::vector<Piece>& pieces, const int64_t* ptr, int32_t* nodes,
            int32_t* edges) {
  loop(static_cast<int64_t>(pieces.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Piece& piece = pieces[static_cast<size_t>(i)];
      const size_t bytes = static_cast<size_t>(piece.steps) * sizeof(int32_t);
      if (bytes == 0) continue;
      std::memcpy(nodes + ptr[piece.first_graph], piece.nodes.get(), bytes);
      std::memcpy(edges + ptr[piece.first_graph], piece.edges.get(), bytes);
    }
  });
}

}  // namespace sslkernels::walks
