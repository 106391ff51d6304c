// Tokens -> graphs. Strict: what no walk of the encoder can have written is an error that names the step.
//
// A pass over ids and entries counts nodes and columns; a second reads, checks and writes at once. Node ids
// follow one another (modulo the scope) in the order of first visit, so that a node's number is its id minus
// the first one and no table is needed.
#pragma once

#include "core.h"

namespace sslkernels::tokens {

struct DecodedGraphs {  // `columns` is the length of a row of edge_index
  int64_t* edge_index;
  int64_t columns;
  int64_t *node_features, *edge_features;
};

struct Counts {
  int64_t nodes = 0, columns = 0;
};

template <class Token>
struct Step {
  int64_t entry, id;
  const Token* node;  // attributes; null at a later visit in the flat layout
  const Token* edge;  // attributes; null where the flat layout has none
};

// token - begin without overflow, whatever the token is.
inline int64_t offset(int64_t token, int64_t begin) {
  return static_cast<int64_t>(static_cast<uint64_t>(token) - static_cast<uint64_t>(begin));
}

// Follows the ids of one graph: which of them are new.
class Ids {
 public:
  explicit Ids(int64_t scope) : scope_(scope) {}

  bool is_next(int64_t id) const { return nodes_ < scope_ && (nodes_ == 0 || id == next_); }

  void add(int64_t id) {
    if (nodes_++ == 0) first_ = id;
    next_ = id + 1 == scope_ ? 0 : id + 1;
  }

  int64_t nodes() const { return nodes_; }

  int64_t number_of(int64_t id) const { return id >= first_ ? id - first_ : id - first_ + scope_; }

 private:
  int64_t scope_, nodes_ = 0, first_ = 0, next_ = 0;
};

// The edges of one graph that may still be passed a second time, by either end.
class OpenEdges {
 public:
  void clear(int64_t nodes, int64_t edges) {
    head_.assign(nodes, -1);
    degree_.assign(nodes, 0);
    next_.clear();
    other_.clear();
    next_.reserve(2 * edges);
    other_.reserve(2 * edges);
  }

  void add(int64_t u, int64_t v) {
    push(u, v);
    push(v, u);
  }

  // Whether an edge between u and v was there; it is taken out. Costs the smaller degree.
  bool take(int64_t u, int64_t v) {
    if (degree_[v] < degree_[u]) std::swap(u, v);
    for (int64_t* link = &head_[u]; *link >= 0;) {
      const int64_t half = *link;
      if (other_[half] != v && other_[half] >= 0) {
        link = &next_[half];
        continue;
      }
      *link = next_[half];
      if (other_[half] < 0) continue;  // taken from its other end
      other_[half ^ 1] = -1;
      --degree_[u];
      --degree_[v];
      return true;
    }
    return false;
  }

 private:
  void push(int64_t u, int64_t v) {
    next_.push_back(head_[u]);
    other_.push_back(v);
    head_[u] = static_cast<int64_t>(next_.size()) - 1;
    ++degree_[u];
  }

  std::vector<int64_t> head_, degree_, next_, other_;
};

// One graph as it grows; reused for the graphs of a range.
template <class Token>
class GraphBuilder {
 public:
  GraphBuilder(const Vocabulary& vocabulary, const DecodedGraphs& out)
      : vocabulary_(vocabulary), out_(out), ids_(vocabulary.scope), spare_(vocabulary.edge_columns()) {}

  void begin(int64_t graph, Counts from, Counts to) {
    graph_ = graph;
    step_ = position_ = current_ = component_ = 0;
    ids_ = Ids(vocabulary_.scope);
    begin_ = from;
    end_ = to;
    column_ = from.columns;
    first_.resize(to.nodes - from.nodes);
    open_.clear(to.nodes - from.nodes, to.columns - from.columns);
  }

  // Where a reader of the flat layout is, for messages.
  void at(int64_t position) { position_ = position; }

  [[noreturn]] void reject(const std::string& what) const {
    const std::string token = vocabulary_.stacked ? "" : " (token " + number(position_) + ")";
    fail("tokens: step " + number(step_) + token + " of graph " + number(graph_) + ": " + what);
  }

  bool is_next(int64_t id) const { return ids_.is_next(id); }

  void add(const Step<Token>& step) {
    if (step.entry < kJump || step.entry > kBackward) {
      reject("token " + number(step.entry) + " is no entry");
    }
    if ((step.entry == kStart) != (step_ == 0)) reject("the first step of a graph, and no other, is a start");
    const int64_t known = ids_.nodes(), from = current_;
    current_ = visit(step);
    if (step.entry >= kBoth) {
      add_edge(from, step);
    } else {
      check_filled(step);
      if (step.entry == kJump) jump(known);
      if (step.entry == kSeen) see_again(from);
    }
    ++step_;
  }

  // Fails only where the two passes disagree, which a well-formed sequence cannot bring about.
  void finish() const {
    if (begin_.nodes + ids_.nodes() != end_.nodes || column_ != end_.columns)
      reject("the sequence is malformed");
  }

 private:
  // The number of the node that a step visits; a new one is written out.
  int64_t visit(const Step<Token>& step) {
    if (step.id < 0 || step.id >= vocabulary_.scope) reject("no node id where one must stand");
    if (is_next(step.id)) return add_node(step);
    const int64_t node = ids_.number_of(step.id);
    if (node >= ids_.nodes()) {
      reject("node id " + number(step.id) + " is neither one visited before nor the next one");
    }
    if (step.node && !std::equal(step.node, step.node + vocabulary_.node_columns(), first_[node])) {
      reject("the attributes of node id " + number(step.id) + " differ from those at its first visit");
    }
    return node;
  }

  int64_t add_node(const Step<Token>& step) {
    const int64_t node = ids_.nodes();
    if (begin_.nodes + node >= end_.nodes) reject("the sequence is malformed");
    ids_.add(step.id);
    first_[node] = step.node;
    read("node", step.node, vocabulary_.node_sizes, vocabulary_.node_begin,
         out_.node_features + (begin_.nodes + node) * vocabulary_.node_columns());
    return node;
  }

  void read(const char* what, const Token* tokens, const std::vector<int64_t>& sizes,
            const std::vector<int32_t>& begin, int64_t* out) const {
    const int64_t width = static_cast<int64_t>(sizes.size());
    if (subtract(tokens, begin.data(), sizes.data(), width, out)) return;
    for (int64_t f = 0; f < width; ++f) {
      if (tokens[f] >= begin[f] && tokens[f] < begin[f] + sizes[f]) continue;
      reject(std::string(what) + " attribute " + number(f) + " is token " + number(tokens[f]) +
             ", outside [" + number(begin[f]) + ", " + number(begin[f] + sizes[f]) + ")");
    }
  }

  // Whether all tokens lie in their ranges; without a branch a token.
  static bool subtract(const Token* __restrict tokens, const int32_t* __restrict begin,
                       const int64_t* __restrict sizes, int64_t width, int64_t* __restrict out) {
    bool outside = false;
    for (int64_t f = 0; f < width; ++f) {
      out[f] = offset(tokens[f], begin[f]);
      outside |= static_cast<uint64_t>(out[f]) >= static_cast<uint64_t>(sizes[f]);
    }
    return !outside;
  }

  // Where a step adds no edge, its edge attributes repeat the entry.
  void check_filled(const Step<Token>& step) const {
    for (int64_t f = 0; step.edge && f < vocabulary_.edge_columns(); ++f) {
      if (step.edge[f] != step.entry) {
        reject("edge attribute " + number(f) + " is token " + number(step.edge[f]) + ", which must be " +
               number(step.entry));
      }
    }
  }

  void jump(int64_t known) {
    if (ids_.nodes() == known) reject("a jump leads to a node visited before");
    component_ = current_;
  }

  void require_component() const {
    if (current_ < component_) reject("an edge leads to a component that was left by a jump");
  }

  void see_again(int64_t from) {
    require_component();
    if (from == current_ || !open_.take(from, current_)) {
      reject("no edge between these nodes is left to be walked a second time");
    }
  }

  void add_edge(int64_t from, const Step<Token>& step) {
    require_component();
    const int64_t to = current_, width = vocabulary_.edge_columns();
    if (from == to ? step.entry != vocabulary_.loop() : !vocabulary_.direction && step.entry != kBoth) {
      reject("token " + number(step.entry) + " is not the entry of such an edge");
    }
    const bool pair = from != to && step.entry == kBoth;
    const bool fits = column_ + 1 + pair <= end_.columns;  // else an attribute is an id, which `read` reports
    int64_t* const features = fits ? out_.edge_features + column_ * width : spare_.data();
    read("edge", step.edge, vocabulary_.edge_sizes, vocabulary_.edge_begin, features);
    if (!fits) reject("the sequence is malformed");
    step.entry == kBackward ? write_column(to, from) : write_column(from, to);
    if (pair) {
      std::copy_n(features, width, features + width);
      write_column(to, from);
    }
    if (from != to) open_.add(from, to);
  }

  void write_column(int64_t from, int64_t to) {
    out_.edge_index[column_] = begin_.nodes + from;
    out_.edge_index[out_.columns + column_] = begin_.nodes + to;
    ++column_;
  }

  const Vocabulary& vocabulary_;
  DecodedGraphs out_;
  Ids ids_;
  OpenEdges open_;
  std::vector<int64_t> spare_;
  std::vector<const Token*> first_;  // a node's attributes where it was first visited
  Counts begin_, end_;
  int64_t graph_ = 0, step_ = 0, position_ = 0, current_ = 0, component_ = 0, column_ = 0;
};

template <class Token>
class Decoder {
 public:
  Decoder(const Vocabulary& vocabulary, const Token* tokens, int64_t length, const int64_t* ptr,
          int64_t graphs)
      : vocabulary_(vocabulary), tokens_(tokens), length_(length), ptr_(ptr), graphs_(graphs) {}

  // Where each graph's nodes and columns begin; the last entry is their number.
  template <class Loop>
  std::vector<Counts> count(const Loop& loop) const {
    check_ptr("ptr", ptr_, graphs_, length_);
    std::vector<Counts> counts(graphs_ + 1);
    loop(graphs_, kGrain, [&](int64_t first, int64_t last) {
      for (int64_t graph = first; graph < last; ++graph) {
        counts[graph + 1] = vocabulary_.stacked ? count_rows(graph) : count_flat(graph);
      }
    });
    for (int64_t graph = 0; graph < graphs_; ++graph) {
      counts[graph + 1].nodes += counts[graph].nodes;
      counts[graph + 1].columns += counts[graph].columns;
    }
    return counts;
  }

  template <class Loop>
  void write(const Loop& loop, const std::vector<Counts>& counts, const DecodedGraphs& out) const {
    loop(graphs_, kGrain, [&](int64_t first, int64_t last) {
      GraphBuilder<Token> builder(vocabulary_, out);
      for (int64_t graph = first; graph < last; ++graph) {
        builder.begin(graph, counts[graph], counts[graph + 1]);
        vocabulary_.stacked ? read_rows(graph, builder) : read_flat(graph, builder);
        builder.finish();
      }
    });
  }

 private:
  Counts count_rows(int64_t graph) const {
    Counts counts;
    Ids ids(vocabulary_.scope);
    int64_t before = -1;
    for (int64_t t = ptr_[graph]; t < ptr_[graph + 1]; ++t) {
      const Token* const row = tokens_ + t * vocabulary_.row();
      const int64_t id = offset(row[0], kFirstId), entry = row[1 + vocabulary_.node_columns()];
      if (ids.is_next(id)) ids.add(id);
      if (entry >= kBoth && entry <= kBackward) counts.columns += 1 + (entry == kBoth && id != before);
      before = id;
    }
    counts.nodes = ids.nodes();
    return counts;
  }

  Counts count_flat(int64_t graph) const {
    Counts counts;
    Ids ids(vocabulary_.scope);
    int64_t before = -1;  // the last id; -1 where no new edge of two columns can follow
    for (int64_t t = ptr_[graph]; t < ptr_[graph + 1]; ++t) {
      const int64_t token = tokens_[t], id = offset(token, kFirstId);
      if (token == kJump || token == kSeen) before = -1;
      if (token >= kBoth && token <= kBackward) counts.columns += 1 + (token == kBoth);
      if (id < 0 || id >= vocabulary_.scope) continue;
      if (ids.is_next(id)) ids.add(id);
      if (!vocabulary_.direction && before >= 0) counts.columns += 1 + (id != before);
      before = id;
    }
    counts.nodes = ids.nodes();
    return counts;
  }

  void read_rows(int64_t graph, GraphBuilder<Token>& builder) const {
    const int64_t width = vocabulary_.node_columns();
    for (int64_t t = ptr_[graph]; t < ptr_[graph + 1]; ++t) {
      const Token* const row = tokens_ + t * vocabulary_.row();
      builder.add({row[1 + width], offset(row[0], kFirstId), row + 1, row + 2 + width});
    }
  }

  void read_flat(int64_t graph, GraphBuilder<Token>& builder) const {
    const Token* const begin = tokens_ + ptr_[graph];
    const Token* const end = tokens_ + ptr_[graph + 1];
    const Token* next = begin;
    const auto take = [&](int64_t count) {
      builder.at(next - begin);
      if (end - next < count) builder.reject("the sequence ends within the step");
      next += count;
      return next - count;
    };
    while (next < end) {
      Step<Token> step{kStart, 0, nullptr, nullptr};
      if (next != begin) {
        const bool written = vocabulary_.direction || *next == kJump || *next == kSeen;
        step.entry = written ? int64_t{*take(1)} : kBoth;
        if (step.entry >= kBoth) step.edge = take(vocabulary_.edge_columns());
      }
      step.id = offset(*take(1), kFirstId);
      if (builder.is_next(step.id)) step.node = take(vocabulary_.node_columns());
      builder.add(step);
    }
  }

  const Vocabulary& vocabulary_;
  const Token* tokens_;
  int64_t length_;
  const int64_t* ptr_;
  int64_t graphs_;
};

}  // namespace sslkernels::tokens
