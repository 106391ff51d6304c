// The walk of an undirected graph: which component when, from where, and Hierholzer's trail through each.
#pragma once

#include <cstdint>

#include "incidence.h"
#include "join.h"

namespace sslkernels::walks {

constexpr int32_t kFirst = -1, kJump = -2;

// Turns the lists into what the walk reads: entries lead to headers, the last of a list is marked, headers
// hold the entry to try next (kNone: none is left).
constexpr uint32_t kLast = 1u << 31;

SSLK_HOST_DEVICE void link(uint32_t nodes, Workspace& w) {
  for (uint32_t v = 0; v < nodes; ++v) {
    const uint32_t header = w.begin[v], end = w.begin[v + 1];
    for (uint32_t s = header + 1; s < end; ++s) w.slots[s].node = w.begin[w.slots[s].node];
    w.slots[header].edge = header + 1 < end ? header + 1 : kNone;
    if (header + 1 < end) w.slots[end - 1].edge |= kLast;
  }
}

// Walks every edge of a component as often as w.passes says, `walked` passes in all, from node `start`, and
// writes walked + 1 steps (Hierholzer, Mathematische Annalen 6, 1873). The stack grows from the front of the
// output, the finished trail from its back.
SSLK_HOST_DEVICE void walk_component(Workspace& w, uint32_t start, uint32_t walked, int32_t* nodes,
                                     int32_t* edges) {
  Slot* header = w.slots + w.begin[start];
  uint32_t top = 0, done = walked + 1;
  nodes[0] = static_cast<int32_t>(start);
  while (top + 1 != done) {  // else every pass is on the stack, in its place
    uint32_t next = header->edge, edge = 0;
    while (next != kNone && w.passes_left(edge = w.slots[next].edge & ~kLast) == 0) {
      next = w.slots[next].edge & kLast ? kNone : next + 1;
    }
    header->edge = next;
    if (next != kNone) {
      w.take_pass(edge);
      header = w.slots + w.slots[next].node;
      ++top;
      nodes[top] = static_cast<int32_t>(header->node);
      edges[top] = static_cast<int32_t>(edge);
    } else {
      --done;
      nodes[done] = nodes[top];
      edges[done] = edges[top];
      header = w.slots + w.begin[nodes[--top]];
    }
  }
}

// Where the walk of a component begins: at `start`, at an end of the open walk, or anywhere.
SSLK_HOST_DEVICE uint32_t beginning(const Workspace& w, const Component& component, const Join& join,
                                    const Words& words) {
  const uint32_t* order = w.order + component.base;
  if (join.end[0] != kNone) {
    const uint32_t a = order[join.end[0]], b = order[join.end[1]];
    return (a < b) == (words.word[1] >> 31 != 0) ? b : a;
  }
  return order[bounded(words.word[0], component.size)];
}

// Puts components in the order they are walked: Fisher-Yates, then the one with `start` first.
SSLK_HOST_DEVICE void take_turns(Workspace& w, uint32_t components, uint32_t first, const Manner& manner) {
  for (uint32_t c = 0; c < components; ++c) w.turn[c] = c;
  for (uint32_t c = components; manner.shuffle && c-- > 1;) {
    const uint32_t word = draw(manner.key, manner.sample, kWalkStart, c).word[2];
    const uint32_t other = bounded(word, c + 1), kept = w.turn[c];
    w.turn[c] = w.turn[other];
    w.turn[other] = kept;
  }
  if (first == kNone) return;
  uint32_t place = 0;
  while (w.turn[place] != first) ++place;
  for (; place > 0; --place) w.turn[place] = w.turn[place - 1];
  w.turn[0] = first;
}

// Plans the walk of each component: where it begins and what it repeats. Returns how many there are.
SSLK_HOST_DEVICE uint32_t plan(Workspace& w, uint32_t nodes, const Manner& manner) {
  for (uint32_t v = 0; v < nodes; ++v) w.rank[v] = kNone;
  Words words{{0, 0, 0, 0}};
  if (manner.shuffle) words = draw(manner.key, manner.sample, kWalkStart, 0);
  const uint32_t offset = bounded(words.word[3], nodes);
  const uint32_t start = IN_BOUNDS(manner.start >= 0) ? static_cast<uint32_t>(manner.start) : kNone;
  uint32_t components = 0, base = 0, first = kNone;
  for (uint32_t i = 0; i < nodes; ++i) {
    const uint32_t root = i < nodes - offset ? offset + i : i - (nodes - offset);
    if (w.rank[root] != kNone) continue;
    Component component;
    span(w, root, base, component);
    base += component.size;
    const bool bound = start != kNone && first == kNone && w.rank[start] != kNone;
    uint32_t free = manner.closed ? 0 : 2;
    if (bound) first = components;
    if (bound && !manner.closed) {  // the walk begins at `start`, so only its other end is free
      free = 1;
      TreeNode& node = w.tree[w.rank[start]];
      component.odd += node.odd ? -1 : 1;
      node.parity = node.odd ^= 1;
    }
    const Join joined = join(w, component, free);
    if (manner.shuffle && components > 0) words = draw(manner.key, manner.sample, kWalkStart, components);
    w.leave[components] = bound ? start : beginning(w, component, joined, words);
    w.walked[components] = component.edges + joined.repeated;
    ++components;
  }
  take_turns(w, components, first, manner);
  return components;
}

// Serializes one undirected graph; room for 2 columns + nodes steps. Returns the number of steps, or -1
// where a column leaves the graph.
template <class Id>
SSLK_HOST_DEVICE int64_t walk_undirected(const Columns<Id>& columns, int64_t first_column, Workspace& w,
                                         const Manner& manner, int32_t* nodes, int32_t* edges) {
  if (list_undirected(columns, w, manner) == kNone) return -1;
  if (columns.nodes == 0) return 0;
  const uint32_t components = plan(w, columns.nodes, manner);
  link(columns.nodes, w);
  int64_t steps = 0;
  for (uint32_t i = 0; i < components; ++i) {
    const uint32_t c = w.turn[i];
    walk_component(w, w.leave[c], w.walked[c], nodes + steps, edges + steps);
    edges[steps] = i == 0 ? kFirst : kJump;
    for (uint32_t s = 1; s <= w.walked[c]; ++s) {
      edges[steps + s] = static_cast<int32_t>(first_column + w.first[edges[steps + s]]);
    }
    steps += w.walked[c] + 1;
  }
  return steps;
}

}  // namespace sslkernels::walks
