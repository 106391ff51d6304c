// The walk of a directed graph. A component with an Euler trail gets it. In any other, each strong component
// is balanced by repeated arcs and walked as a circuit when the walk first comes to it; from its end the walk
// goes on over the nearest arc not walked yet, and jumps only where none can be reached.
#pragma once

#include <cstdint>
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
    d.outer.assign(nodes, 1);
    d.stamp.assign(nodes, 0);
    d.from.resize(nodes);
    d.by.resize(nodes);
    d.searches = 0;
    d.dead.assign(nodes, 0);
    d.done.assign(regions(), 0);
    d.member.assign(d.region_begin.begin(), d.region_begin.end());
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

  void step(uint32_t node, int64_t edge) {
    piece_.reserve(1);
    piece_.nodes[piece_.steps] = static_cast<int32_t>(node);
    piece_.edges[piece_.steps] = static_cast<int32_t>(edge);
    ++piece_.steps;
  }

  void walk_arc(const Slot& arc) {
    ++d_.walked[arc.edge];
    step(arc.node, first_column_ + arc.edge);
  }

  // The next arc of node v inside its region (or out of it) that is still to be walked; null if there is
  // none.
  const Slot* inner_arc(uint32_t v) {
    const Slot* header = list(v);
    uint32_t& s = d_.inner[v];
    while (s <= header->edge &&
           (d_.region[header[s].node] != d_.region[v] || d_.times[header[s].edge] == 0)) {
      ++s;
    }
    return s <= header->edge ? header + s : nullptr;
  }
  const Slot* outer_arc(uint32_t v) {
    const Slot* header = list(v);
    uint32_t& s = d_.outer[v];
    while (s <= header->edge &&
           (d_.region[header[s].node] == d_.region[v] || d_.walked[header[s].edge] > 0)) {
      ++s;
    }
    return s <= header->edge ? header + s : nullptr;
  }

  // Passes still to be made inside a region.
  int64_t passes(uint32_t region) const {
    int64_t all = 0;
    for (uint32_t i = d_.region_begin[region]; i < d_.region_begin[region + 1]; ++i) {
      const Slot* header = list(d_.members[i]);
      for (uint32_t s = 1; s <= header->edge; ++s) {
        if (d_.region[header[s].node] == region) all += d_.times[header[s].edge];
      }
    }
    if (all > int64_t{1} << 30) {
      throw std::invalid_argument("edge_index: the walk of a graph would pass 2^30 steps");
    }
    return all;
  }

  // Hierholzer inside the region of `v`, the last step; returns the node at its end.
  uint32_t circuit(uint32_t v) {
    d_.done[d_.region[v]] = 1;
    const int64_t all = passes(d_.region[v]);
    piece_.reserve(all);
    int32_t* nodes = piece_.nodes.get() + piece_.steps - 1;
    int32_t* edges = piece_.edges.get() + piece_.steps - 1;
    int64_t top = 0, done = all + 1;
    while (top + 1 != done) {
      if (const Slot* arc = inner_arc(v)) {
        --d_.times[arc->edge];
        ++d_.walked[arc->edge];
        v = arc->node;
        ++top;
        nodes[top] = static_cast<int32_t>(v);
        edges[top] = static_cast<int32_t>(first_column_ + arc->edge);
      } else {
        --done;
        nodes[done] = nodes[top];
        edges[done] = edges[top];
        v = static_cast<uint32_t>(nodes[--top]);
      }
    }
    piece_.steps += all;
    return static_cast<uint32_t>(nodes[all]);
  }

  bool pending(uint32_t v) {
    if (!d_.done[d_.region[v]] && inner_arc(v) != nullptr) return true;
    return outer_arc(v) != nullptr;
  }

  // Walks over arcs already walked to the nearest node with work left; false: there is none to be reached,
  // nor will there ever be from what was searched.
  bool go_on(uint32_t& v) {
    if (d_.dead[v]) return false;
    if (pending(v)) return true;
    const uint32_t search = ++d_.searches;
    d_.queue.assign(1, v);
    d_.stamp[v] = search;
    for (size_t i = 0; i < d_.queue.size(); ++i) {
      const uint32_t u = d_.queue[i];
      const Slot* header = list(u);
      for (uint32_t s = 1; s <= header->edge; ++s) {
        const uint32_t other = header[s].node;
        if (d_.dead[other] || d_.stamp[other] == search) continue;
        d_.stamp[other] = search;
        d_.from[other] = u;
        d_.by[other] = s;
        d_.queue.push_back(other);
        if (!pending(other)) continue;
        d_.longest.clear();
        for (uint32_t node = other; node != v; node = d_.from[node]) d_.longest.push_back(node);
        for (size_t k = d_.longest.size(); k-- > 0;) {
          const uint32_t node = d_.longest[k];
          walk_arc(list(d_.from[node])[d_.by[node]]);
        }
        v = other;
        return true;
      }
    }
    for (const uint32_t u : d_.queue) d_.dead[u] = 1;
    return false;
  }

  // From v on until nothing is left that can be reached, without the repeated arcs at the end.
  void walk_segment(uint32_t v) {
    const int64_t begin = piece_.steps - 1;
    while (go_on(v)) {
      if (!d_.done[d_.region[v]]) {
        v = circuit(v);
      } else {
        const Slot arc = *outer_arc(v);
        walk_arc(arc);
        v = arc.node;
      }
    }
    if (manner_.closed) return;
    while (piece_.steps - 1 > begin) {
      uint32_t& walked = d_.walked[static_cast<size_t>(piece_.edges[piece_.steps - 1] - first_column_)];
      if (walked == 1) break;
      --walked;
      --piece_.steps;
    }
  }

  // Where to jump: the region that others lead to least and that has work left; there, if possible, a node
  // with an arc out of it. kNone: all is done.
  uint32_t landing(uint32_t c, uint32_t& region) {
    for (; region > d_.first_region[c]; --region) {
      const uint32_t r = region - 1, begin = d_.region_begin[r], end = d_.region_begin[r + 1];
      while (d_.member[r] < end && outer_arc(d_.members[d_.member[r]]) == nullptr) ++d_.member[r];
      if (d_.member[r] < end) return d_.members[d_.member[r]];
      if (!d_.done[r] && inner_arc(d_.members[begin]) != nullptr) return d_.members[begin];
    }
    return kNone;
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
    uint32_t unused, region = d_.first_region[c + 1];
    const bool trail = has_trail(c, unused), single = region - d_.first_region[c] == 1;
    if (!trail) {
      for (uint32_t r = d_.first_region[c]; r < region; ++r) balance(w_, r, d_);
    }
    if (start == kNone) start = single ? beginning(c, trail) : landing(c, region);
    for (; start != kNone; start = landing(c, region)) {
      step(start, first ? kFirst : kJump);
      first = false;
      walk_segment(start);
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
