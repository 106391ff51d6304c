// Walks, re-indexed node ids and features -> tokens and their groups.
#pragma once

#include "core.h"

namespace sslkernels::tokens {

struct Walks {  // steps of all graphs, packed; edges: a column of Encoded::from and to, -1 first, -2 jump
  const int32_t *ids, *nodes, *edges;
  const int64_t* ptr;
  int64_t steps, graphs;
};

struct WalkedColumns {
  const int64_t *from, *to, *ptr, *column;  // column: of the features
  const int32_t* kind;
  int64_t count;
};

struct Features {
  const int64_t *node, *edge;
  int64_t nodes, edges;
};

// Stands beside the entry of a step.
constexpr uint8_t kNewNode = 16;

class Encoder {
 public:
  Encoder(const Vocabulary& vocabulary, const Walks& walks, const WalkedColumns& columns,
          const int64_t* graph_ptr, const Features& features)
      : vocabulary_(vocabulary),
        walks_(walks),
        columns_(columns),
        graph_ptr_(graph_ptr),
        features_(features),
        step_(walks.steps),
        node_seen_(features.nodes, 0),
        edge_seen_(columns.count, 0) {}

  // Checks everything and returns ptr of the tokens.
  template <class Loop>
  std::vector<int64_t> plan(const Loop& loop) {
    check_ptr("ptr", walks_.ptr, walks_.graphs, walks_.steps);
    check_ptr("graph_ptr", graph_ptr_, walks_.graphs, features_.nodes);
    check_ptr("edge_ptr", columns_.ptr, walks_.graphs, columns_.count);
    std::vector<int64_t> ptr(walks_.graphs + 1, 0);
    loop(walks_.graphs, kGrain, [&](int64_t first, int64_t last) {
      for (int64_t graph = first; graph < last; ++graph) ptr[graph + 1] = plan_graph(graph);
    });
    for (int64_t graph = 0; graph < walks_.graphs; ++graph) ptr[graph + 1] += ptr[graph];
    return ptr;
  }

  template <class Loop>
  void write(const Loop& loop, const int64_t* ptr, int32_t* tokens, int64_t* groups) const {
    loop(walks_.graphs, kGrain, [&](int64_t first, int64_t last) {
      for (int64_t graph = first; graph < last; ++graph) {
        const int64_t at = ptr[graph];
        vocabulary_.stacked ? write_rows(graph, tokens + at * vocabulary_.row(), groups + at)
                            : write_flat(graph, tokens + at, groups + at);
      }
    });
  }

 private:
  int64_t plan_graph(int64_t graph) {
    const int64_t begin = walks_.ptr[graph], end = walks_.ptr[graph + 1];
    check_features("node_features", features_.node, vocabulary_.node_sizes, graph_ptr_[graph],
                   graph_ptr_[graph + 1]);
    int64_t tokens = 0;
    for (int64_t t = begin; t < end; ++t) {
      check_node(graph, t);
      uint8_t& seen = node_seen_[graph_ptr_[graph] + walks_.nodes[t]];
      const int32_t entry = t == begin ? first_entry(t) : enter(graph, t);
      step_[t] = static_cast<uint8_t>(entry | (seen ? 0 : kNewNode));
      tokens += 1 + entry_tokens(entry) + (seen ? 0 : vocabulary_.node_columns());
      seen = 1;
    }
    return vocabulary_.stacked ? end - begin : tokens;
  }

  // In the flat layout.
  int64_t entry_tokens(int32_t entry) const {
    if (entry == kStart) return 0;
    return entry < kBoth ? 1 : vocabulary_.direction + vocabulary_.edge_columns();
  }

  void check_features(const char* name, const int64_t* features, const std::vector<int64_t>& sizes,
                      int64_t first, int64_t last) const {
    const int64_t width = static_cast<int64_t>(sizes.size());
    for (int64_t row = first; row < last; ++row) {
      if (all_inside(features + row * width, sizes.data(), width)) continue;
      for (int64_t f = 0; f < width; ++f) {
        const int64_t value = features[row * width + f];
        if (value >= 0 && value < sizes[f]) continue;
        fail(std::string(name) + "[" + number(row) + ", " + number(f) + "] is " + number(value) +
             ", outside [0, " + number(sizes[f]) + ")");
      }
    }
  }

  // Without a branch a value, which costs more than the comparison.
  static bool all_inside(const int64_t* __restrict values, const int64_t* __restrict sizes, int64_t width) {
    bool outside = false;
    for (int64_t f = 0; f < width; ++f) {
      outside |= static_cast<uint64_t>(values[f]) >= static_cast<uint64_t>(sizes[f]);
    }
    return !outside;
  }

  void check_node(int64_t graph, int64_t t) const {
    const int64_t nodes = graph_ptr_[graph + 1] - graph_ptr_[graph];
    if (walks_.nodes[t] < 0 || walks_.nodes[t] >= nodes) {
      fail("nodes[" + number(t) + "] is " + number(walks_.nodes[t]) + ", outside [0, " + number(nodes) + ")");
    }
    if (walks_.ids[t] < 0 || walks_.ids[t] >= vocabulary_.scope) {
      fail("ids[" + number(t) + "] is " + number(walks_.ids[t]) + ", outside [0, " +
           number(vocabulary_.scope) + ")");
    }
  }

  int32_t first_entry(int64_t t) const {
    if (walks_.edges[t] != -1) fail("edges[" + number(t) + "] must be -1 at the first step of a graph");
    return kStart;
  }

  int32_t enter(int64_t graph, int64_t t) {
    const int64_t edge = walks_.edges[t];
    if (edge == -2) return kJump;
    if (edge < columns_.ptr[graph] || edge >= columns_.ptr[graph + 1]) {
      fail("edges[" + number(t) + "] is " + number(edge) + ", no column of graph " + number(graph));
    }
    const int64_t from = graph_ptr_[graph] + walks_.nodes[t - 1], to = graph_ptr_[graph] + walks_.nodes[t];
    const bool along = columns_.from[edge] == from && columns_.to[edge] == to;
    if (!along && (columns_.from[edge] != to || columns_.to[edge] != from)) {
      fail("edges[" + number(t) + "] is " + number(edge) + ", which does not join nodes[" + number(t - 1) +
           "] and nodes[" + number(t) + "]");
    }
    if (edge_seen_[edge]) return kSeen;
    edge_seen_[edge] = 1;
    const int64_t column = columns_.column[edge];
    if (column < 0 || column >= features_.edges) {
      fail("column[" + number(edge) + "] is " + number(column) + ", outside [0, " + number(features_.edges) +
           ")");
    }
    check_features("edge_features", features_.edge, vocabulary_.edge_sizes, column, column + 1);
    if (!vocabulary_.direction || columns_.kind[edge] == kPair)
      return from == to ? vocabulary_.loop() : kBoth;
    return from == to || along == (columns_.kind[edge] == kLone) ? kForward : kBackward;
  }

  int32_t* write_node(int64_t node, int32_t* out) const {
    return write_row(features_.node + node * vocabulary_.node_columns(), vocabulary_.node_begin, out);
  }

  int32_t* write_edge(int64_t edge, int32_t* out) const {
    const int64_t row = columns_.column[edge] * vocabulary_.edge_columns();
    return write_row(features_.edge + row, vocabulary_.edge_begin, out);
  }

  static int32_t* write_row(const int64_t* __restrict row, const std::vector<int32_t>& begins,
                            int32_t* __restrict out) {
    const int64_t width = static_cast<int64_t>(begins.size());
    const int32_t* __restrict begin = begins.data();
    for (int64_t f = 0; f < width; ++f) out[f] = begin[f] + static_cast<int32_t>(row[f]);
    return out + width;
  }

  void write_rows(int64_t graph, int32_t* out, int64_t* groups) const {
    for (int64_t t = walks_.ptr[graph]; t < walks_.ptr[graph + 1]; ++t) {
      const int32_t entry = step_[t] & (kNewNode - 1);
      *out++ = kFirstId + walks_.ids[t];
      out = write_node(graph_ptr_[graph] + walks_.nodes[t], out);
      *out++ = entry;
      if (entry >= kBoth) {
        out = write_edge(walks_.edges[t], out);
      } else {
        out = std::fill_n(out, vocabulary_.edge_columns(), entry);
      }
      *groups++ = walks_.nodes[t];
    }
  }

  void write_flat(int64_t graph, int32_t* out, int64_t* groups) const {
    const int64_t nodes = graph_ptr_[graph + 1] - graph_ptr_[graph];
    for (int64_t t = walks_.ptr[graph]; t < walks_.ptr[graph + 1]; ++t) {
      const int32_t entry = step_[t] & (kNewNode - 1);
      int32_t* const start = out;
      if (entry == kJump || entry == kSeen) *out++ = entry;
      if (entry >= kBoth) {
        if (vocabulary_.direction) *out++ = entry;
        out = write_edge(walks_.edges[t], out);
      }
      groups = std::fill_n(groups, out - start, entry == kJump ? -1 : edge_group(graph, nodes, t));
      int32_t* const node = out;
      *out++ = kFirstId + walks_.ids[t];
      if (step_[t] & kNewNode) out = write_node(graph_ptr_[graph] + walks_.nodes[t], out);
      groups = std::fill_n(groups, out - node, int64_t{walks_.nodes[t]});
    }
  }

  // Groups of edges come after those of nodes.
  int64_t edge_group(int64_t graph, int64_t nodes, int64_t t) const {
    const int64_t edge = walks_.edges[t];
    return edge < 0 ? -1 : nodes + columns_.column[edge] - columns_.column[columns_.ptr[graph]];
  }

  Vocabulary vocabulary_;
  Walks walks_;
  WalkedColumns columns_;
  const int64_t* graph_ptr_;
  Features features_;
  std::vector<uint8_t> step_, node_seen_, edge_seen_;
};

}  // namespace sslkernels::tokens
