// The walk of a directed graph. A component with an Euler trail gets it, a strongly connected one a circuit
// with repeated arcs. Any other is taken apart into trails, each of which ends with an arc that enters a
// strong component, and they are walked in the order of these components, those that lead nowhere first: what
// can be reached from a trail's end then lies on trails that went before, and the jump from there is allowed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

#include "balance.h"
#include "trail.h"

namespace sslkernels::walks {

// One directed graph on its way into `piece`, which has steps, nodes, edges and reserve(more).
template <class Piece>
class DirectedWalk {
 public:
  DirectedWalk(Workspace& w, uint32_t nodes, uint32_t arcs, int64_t first_column, const Manner& manner,
               Directed& d, Piece& piece)
      : w_(w), d_(d), piece_(piece), manner_(manner), nodes_(nodes), first_column_(first_column) {
    const uint32_t offset =
        manner.shuffle ? bounded(draw(manner.key, manner.sample, kWalkStart, 0).word[3], nodes) : 0;
    weak_components(w, nodes, offset, d);
    find_regions();
    d.times.assign(arcs, 1);
    d.walked.assign(arcs, 0);
    d.inner.assign(nodes, 1);
    d.stamp.assign(nodes, 0);
    d.from.resize(nodes);
    d.by.resize(nodes);
    d.origin.resize(nodes);
    d.searches = 0;
    find_entries();
  }

  // Appends the walk; returns its steps, -2 where `closed` cannot be.
  int64_t run() {
    if (manner_.closed && !closable()) return -2;
    const int64_t before = piece_.steps;
    const uint32_t bound = manner_.start < 0 ? kNone : d_.component[static_cast<size_t>(manner_.start)];
    take_turns(w_, components(), bound, manner_);
    for (uint32_t i = 0; i < components(); ++i) {
      const uint32_t c = w_.turn[i];
      walk_component(c, c == bound ? static_cast<uint32_t>(manner_.start) : kNone, i == 0);
    }
    const int64_t steps = piece_.steps - before;
    piece_.steps = before;
    return steps;
  }

 private:
  uint32_t components() const { return static_cast<uint32_t>(d_.component_begin.size()) - 1; }
  uint32_t regions() const { return static_cast<uint32_t>(d_.region_begin.size()) - 1; }
  const Slot* list(uint32_t v) const { return w_.slots + w_.begin[v]; }

  // The node where an Euler trail of component c must begin: kNone where it may begin anywhere. False: there
  // is no such trail.
  bool has_trail(uint32_t c, uint32_t& begin) const {
    uint32_t spare = 0, lack = 0;
    begin = kNone;
    for (uint32_t i = d_.component_begin[c]; i < d_.component_begin[c + 1]; ++i) {
      const int32_t excess = d_.excess[d_.order[i]];
      if (excess > 0) spare += static_cast<uint32_t>(excess);
      if (excess < 0) lack += static_cast<uint32_t>(-excess);
      if (excess < 0) begin = d_.order[i];
    }
    if (spare + lack == 0) return true;
    if (spare != 1 || manner_.closed) return false;
    const bool bound = manner_.start >= 0 && d_.component[static_cast<size_t>(manner_.start)] == c;
    return !bound || manner_.start == begin;
  }

  void find_regions() {
    d_.region.assign(nodes_, kNone);
    d_.region_begin.assign(1, 0);
    d_.members.clear();
    d_.first_region.clear();
    d_.low.resize(nodes_);
    d_.next.assign(nodes_, kNone);
    d_.inner.resize(nodes_);
    uint32_t clock = 0, begin;
    for (uint32_t c = 0; c < components(); ++c) {
      d_.first_region.push_back(regions());
      const bool trail = has_trail(c, begin);
      for (uint32_t i = d_.component_begin[c]; i < d_.component_begin[c + 1]; ++i) {
        const uint32_t v = d_.order[i];
        if (trail) {
          d_.region[v] = regions();
          d_.members.push_back(v);
        } else if (d_.region[v] == kNone) {
          strong_regions(w_, v, clock, d_);
        }
      }
      if (trail) close_region(d_);
    }
    d_.first_region.push_back(regions());
  }

  bool closable() const {
    for (uint32_t c = 0; c < components(); ++c) {
      if (d_.first_region[c + 1] - d_.first_region[c] != 1) return false;
    }
    return true;
  }

  // Which arcs lead from one region to another.
  void find_entries() {
    d_.entries.assign(nodes_, 0);
    d_.ends.assign(nodes_, 0);
    d_.leads.assign(regions(), 0);
    for (uint32_t v = 0; v < nodes_; ++v) {
      const Slot* header = list(v);
      for (uint32_t s = 1; s <= header->edge; ++s) {
        if (d_.region[header[s].node] == d_.region[v]) continue;
        ++d_.entries[header[s].node];
        d_.leads[d_.region[v]] = 1;
      }
    }
  }

  // The next arc of node v that is still to be walked; null if there is none.
  const Slot* next_arc(uint32_t v) {
    const Slot* header = list(v);
    uint32_t& s = d_.inner[v];
    while (s <= header->edge && d_.times[header[s].edge] == 0) ++s;
    return s <= header->edge ? header + s : nullptr;
  }

  void begin_trail(uint32_t v) {
    d_.trail_begin.push_back(static_cast<uint32_t>(d_.trails.size()));
    d_.trails.push_back(Slot{v, kNone});
  }

  // The trail from `start`, which is walked first and so must end where no arc leads on: the shortest way
  // to such a region.
  void trail_to_sink(uint32_t start) {
    const uint32_t search = ++d_.searches;
    uint32_t v = start;
    d_.queue.assign(1, v);
    d_.stamp[v] = search;
    for (size_t i = 0; d_.leads[d_.region[v]]; ++i) {
      const uint32_t u = d_.queue[i];
      const Slot* header = list(u);
      for (uint32_t s = 1; s <= header->edge && d_.leads[d_.region[v]]; ++s) {
        if (d_.stamp[header[s].node] == search) continue;
        v = header[s].node;
        d_.stamp[v] = search;
        d_.from[v] = u;
        d_.by[v] = s;
        d_.queue.push_back(v);
      }
    }
    d_.queue.clear();
    for (; v != start; v = d_.from[v]) d_.queue.push_back(v);
    begin_trail(start);
    for (size_t i = d_.queue.size(); i-- > 0;) {
      const uint32_t node = d_.queue[i], before = d_.from[node];
      const Slot arc = list(before)[d_.by[node]];
      d_.trails.push_back(arc);
      if (d_.region[before] == d_.region[node]) continue;
      d_.times[arc.edge] = 0;
      --d_.entries[node];
      --d_.excess[node];
      ++d_.excess[before];
    }
  }

  // Every trail from its beginning to the arc that ends it.
  void find_trails() {
    for (uint32_t v : d_.begins) {
      begin_trail(v);
      while (const Slot* arc = next_arc(v)) {
        --d_.times[arc->edge];
        d_.trails.push_back(*arc);
        const bool enters = d_.region[v] != d_.region[arc->node];
        v = arc->node;
        if (enters && d_.ends[v] > 0) {
          --d_.ends[v];
          break;
        }
      }
    }
    d_.trail_begin.push_back(static_cast<uint32_t>(d_.trails.size()));
  }

  // Passes still to be made in component c.
  int64_t passes(uint32_t c) const {
    int64_t all = 0;
    for (uint32_t i = d_.component_begin[c]; i < d_.component_begin[c + 1]; ++i) {
      const Slot* header = list(d_.order[i]);
      for (uint32_t s = 1; s <= header->edge; ++s) all += d_.times[header[s].edge];
    }
    return all;
  }

  // Writes a trail with the circuits that hang on it, by Hierholzer: the trail is the stack to begin with, at
  // the front of the `left` steps that the component still has; what is finished grows from the back.
  void write_trail(uint32_t number, int64_t landing, int64_t& left) {
    const Slot* trail = d_.trails.data() + d_.trail_begin[number];
    const int64_t length = d_.trail_begin[number + 1] - d_.trail_begin[number];
    piece_.reserve(left);
    int32_t* nodes = piece_.nodes.get() + piece_.steps;
    int32_t* edges = piece_.edges.get() + piece_.steps;
    int64_t top = -1, done = left;
    const auto push = [&](const Slot& arc) {
      ++d_.walked[arc.edge];
      ++top;
      nodes[top] = static_cast<int32_t>(arc.node);
      edges[top] = static_cast<int32_t>(first_column_ + arc.edge);
    };
    ++top;
    nodes[top] = static_cast<int32_t>(trail->node);
    edges[top] = static_cast<int32_t>(landing);
    for (int64_t i = 1; i < length; ++i) push(trail[i]);
    while (top >= 0) {
      if (const Slot* arc = next_arc(static_cast<uint32_t>(nodes[top]))) {
        --d_.times[arc->edge];
        push(*arc);
      } else {
        --done;
        nodes[done] = nodes[top];
        edges[done] = edges[top];
        --top;
      }
    }
    const int64_t steps = left - done;
    if (done > 0) {
      std::memmove(nodes, nodes + done, static_cast<size_t>(steps) * sizeof(int32_t));
      std::memmove(edges, edges + done, static_cast<size_t>(steps) * sizeof(int32_t));
    }
    left -= steps;
    piece_.steps += steps;
    if (!manner_.closed) drop_repeated(steps);
  }

  // Takes back the repeated arcs at the end of the trail of `steps` steps.
  void drop_repeated(int64_t steps) {
    for (; steps > 1; --steps) {
      uint32_t& walked = d_.walked[static_cast<size_t>(piece_.edges[piece_.steps - 1] - first_column_)];
      if (walked == 1) return;
      --walked;
      --piece_.steps;
    }
  }

  // The free beginning of a component that is a single region.
  uint32_t beginning(uint32_t c, bool balanced) {
    uint32_t begin = kNone;
    if (!balanced) {  // walk from the far end of the longest route, and leave that route out
      if (!manner_.closed && !d_.longest.empty()) {
        for (const uint32_t arc : d_.longest) --d_.times[arc];
        return d_.far_end;
      }
    } else if (has_trail(c, begin) && begin != kNone) {
      return begin;
    }
    const uint32_t size = d_.component_begin[c + 1] - d_.component_begin[c];
    const uint32_t word = manner_.shuffle ? draw(manner_.key, manner_.sample, kWalkStart, c).word[0] : 0;
    return d_.order[d_.component_begin[c] + bounded(word, size)];
  }

  void walk_component(uint32_t c, uint32_t start, bool first) {
    uint32_t unused;
    const bool trail = has_trail(c, unused), single = d_.first_region[c + 1] - d_.first_region[c] == 1;
    d_.begins.clear();
    d_.trails.clear();
    d_.trail_begin.clear();
    if (!single && start != kNone) trail_to_sink(start);
    if (!trail) {
      for (uint32_t r = d_.first_region[c]; r < d_.first_region[c + 1]; ++r) balance(w_, r, d_);
    }
    if (single) begin_trail(start == kNone ? beginning(c, trail) : start);
    const uint32_t given = static_cast<uint32_t>(d_.trail_begin.size());  // comes first
    int64_t left = passes(c) + static_cast<int64_t>(d_.trails.size() + d_.begins.size());
    if (left > int64_t{1} << 30) {
      throw std::invalid_argument("edge_index: the walk of a graph would pass 2^30 steps");
    }
    find_trails();
    d_.by_ends.clear();
    for (uint32_t i = 0; i + 1 < d_.trail_begin.size(); ++i) {
      const uint32_t end = i < given ? 0 : d_.region[d_.trails[d_.trail_begin[i + 1] - 1].node];
      d_.by_ends.push_back(uint64_t{end} << 32 | i);
    }
    std::sort(d_.by_ends.begin(), d_.by_ends.end());
    for (const uint64_t entry : d_.by_ends) {
      write_trail(static_cast<uint32_t>(entry), first ? kFirst : kJump, left);
      first = false;
    }
  }

  Workspace& w_;
  Directed& d_;
  Piece& piece_;
  const Manner& manner_;
  const uint32_t nodes_;
  const int64_t first_column_;
};

// Serializes one directed graph behind the steps of `piece`, whose count stays. Returns the number of steps,
// -1 where a column leaves the graph, -2 where `closed` cannot be.
template <class Id, class Piece>
int64_t walk_directed(const Columns<Id>& columns, int64_t first_column, Workspace& w, const Manner& manner,
                      Directed& directed, Piece& piece) {
  const uint32_t arcs = list_directed(columns, w, manner);
  if (arcs == kNone) return -1;
  if (columns.nodes == 0) return 0;
  return DirectedWalk<Piece>(w, columns.nodes, arcs, first_column, manner, directed, piece).run();
}

}  // namespace sslkernels::walks
