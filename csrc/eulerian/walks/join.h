// The minimum T-join: the fewest edges to walk twice so that a component has an Eulerian walk (Edmonds and
// Johnson, "Matching, Euler tours and the Chinese postman", Mathematical Programming 5, 1973). An open walk
// leaves two odd nodes free, one that begins at a given node leaves one free, a closed one none.
//
//   chords   no non-tree edge: bottom-up over the spanning tree. Up to 12: every subset of them, likewise
//   pairs    up to 12 odd nodes: every pairing, by distances
//   greedy   otherwise: chords between odd nodes where a leaves-first pass meets them, the tree for the rest
#pragma once

#include <cstdint>

#include "lanes.h"
#include "spanning.h"

namespace sslkernels::walks {

// -- every pairing of a few odd nodes
// ------------------------------------------------------------------------

// Breadth-first distances from node `from` until `until` is reached (kNone: all of the component).
SSLK_HOST_DEVICE void search(Workspace& w, const Component& component, uint32_t from, uint32_t until) {
  for (uint32_t i = 0; i < component.size; ++i) w.distance[w.order[component.base + i]] = kNone;
  uint32_t queued = 1;
  w.queue[0] = from;
  w.distance[from] = 0;
  for (uint32_t i = 0; i < queued; ++i) {
    const uint32_t u = w.queue[i];
    const Slot* header = w.slots + w.begin[u];
    for (uint32_t s = 1; s <= header->edge; ++s) {
      const Slot slot = header[s];
      if (w.distance[slot.node] != kNone) continue;
      w.distance[slot.node] = w.distance[u] + 1;
      w.via[slot.node] = Slot{u, slot.edge};
      if (slot.node == until) return;
      w.queue[queued++] = slot.node;
    }
  }
}

// The odd nodes in the order of their ranks, and the length of the shortest path between any two.
struct OddNodes {
  uint32_t count = 0;
  uint32_t rank[kTableNodes];
  uint32_t distance[kTableNodes][kTableNodes];
};

SSLK_HOST_DEVICE void measure_odd(Workspace& w, const Component& component, OddNodes& odd) {
  for (uint32_t i = 0; i < component.size; ++i) {
    if (w.tree[component.base + i].odd) odd.rank[odd.count++] = i;
  }
  for (uint32_t i = 0; i < odd.count; ++i) {
    search(w, component, w.order[component.base + odd.rank[i]], kNone);
    for (uint32_t j = 0; j < odd.count; ++j) {
      odd.distance[i][j] = w.distance[w.order[component.base + odd.rank[j]]];
    }
  }
}

SSLK_HOST_DEVICE uint32_t lowest_bit(uint32_t mask) {
#if defined(__CUDA_ARCH__)
  return static_cast<uint32_t>(__ffs(static_cast<int>(mask))) - 1;
#else
  return static_cast<uint32_t>(__builtin_ctz(mask));
#endif
}

// table[mask]: the cheapest pairing of the nodes in `mask`, kNone where their number is odd.
SSLK_HOST_DEVICE void pair_subsets(const OddNodes& odd, uint32_t* table) {
  table[0] = 0;
  for (uint32_t mask = 1; mask < 1u << odd.count; ++mask) {
    const uint32_t i = lowest_bit(mask), rest = mask ^ 1u << i;
    uint32_t least = kNone;
    for (uint32_t others = bits_of(mask) & 1 ? 0 : rest; others != 0; others &= others - 1) {
      const uint32_t j = lowest_bit(others), cost = table[rest ^ 1u << j] + odd.distance[i][j];
      least = cost < least ? cost : least;
    }
    table[mask] = least;
  }
}

// The nodes to pair: all but the `free` that cost most; the first best pair, or node, in ascending order.
SSLK_HOST_DEVICE uint32_t leave_out(const OddNodes& odd, const uint32_t* table, uint32_t free, Join& join) {
  const uint32_t all = (1u << odd.count) - 1;
  if (free == 0) return all;
  uint32_t best = all, least = kNone;
  for (uint32_t i = 0; i < odd.count; ++i) {
    for (uint32_t j = free == 1 ? i : i + 1; j < (free == 1 ? i + 1 : odd.count); ++j) {
      const uint32_t mask = all & ~(1u << i | 1u << j);
      if (table[mask] >= least) continue;
      least = table[mask];
      best = mask;
      if (free == 2) {
        join.end[0] = odd.rank[i];
        join.end[1] = odd.rank[j];
      }
    }
  }
  return best;
}

SSLK_HOST_DEVICE void join_pairs(Workspace& w, const Component& component, uint32_t free, Join& join) {
  OddNodes odd;
  measure_odd(w, component, odd);
  pair_subsets(odd, w.table);
  uint32_t mask = leave_out(odd, w.table, free, join);
  while (mask != 0) {
    const uint32_t i = lowest_bit(mask), rest = mask ^ 1u << i;
    uint32_t j = i + 1;
    while (!(rest >> j & 1u) || w.table[mask] != w.table[rest ^ 1u << j] + odd.distance[i][j]) ++j;
    mask = rest ^ 1u << j;
    const uint32_t from = w.order[component.base + odd.rank[i]];
    const uint32_t to = w.order[component.base + odd.rank[j]];
    search(w, component, from, to);
    for (uint32_t v = to; v != from; v = w.via[v].node) {  // paths of a cheapest pairing share no edge
      w.repeat(w.via[v].edge);
      ++join.repeated;
    }
  }
}

// -- many odd nodes
// ------------------------------------------------------------------------------------------

// From the leaves on: an odd node is joined over a chord to an odd node of lower rank, the first in its list,
// else over the tree to its parent. Only the chords are repeated here; join_tree does the rest anew.
SSLK_HOST_DEVICE void repeat_greedy_chords(Workspace& w, const Component& component, Join& join) {
  TreeNode* tree = w.tree + component.base;
  for (uint32_t i = 0; i < component.size; ++i) tree[i].choice = tree[i].odd;  // still to be joined
  for (uint32_t i = component.size - 1; i > 0; --i) {
    if (!tree[i].choice) continue;
    if (IN_BOUNDS(i >= 8)) soon(&w.slots[w.begin[w.order[component.base + i - 8]]]);
    const Slot* header = w.slots + w.begin[w.order[component.base + i]];
    uint32_t other = tree[i].parent;
    for (uint32_t s = 1; s <= header->edge; ++s) {
      const uint32_t j = w.rank[header[s].node] - component.base;
      if (j >= i || !tree[j].choice) continue;
      other = j;
      if (header[s].edge != tree[i].edge) repeat_chord(w, component, i, j, header[s].edge, join);
      break;
    }
    tree[other].choice ^= 1;
  }
}

// -- choosing
// ------------------------------------------------------------------------------------------------

SSLK_HOST_DEVICE bool tries_subsets(const Component& component, uint32_t most) {
  return component.chords <= most && component.size <= kLaneNodes &&
         component.size << component.chords <= 1u << 20;
}

// Marks in w.passes what is walked twice, with `free` nodes left free.
SSLK_HOST_DEVICE Join join(Workspace& w, const Component& component, uint32_t free) {
  Join join;
  if (component.odd <= free) {
    for (uint32_t i = 0, found = 0; free == 2 && found < component.odd; ++i) {
      if (w.tree[component.base + i].odd) join.end[found++] = i;
    }
    return join;
  }
  if (component.chords > 0) {
    if (tries_subsets(component, 8)) {
      repeat_best_chords(w, component, free, join);
    } else if (IN_BOUNDS(component.odd <= kTableNodes)) {
      join_pairs(w, component, free, join);
      return join;
    } else if (tries_subsets(component, kMostChords)) {
      repeat_best_chords(w, component, free, join);
    } else {
      repeat_greedy_chords(w, component, join);
    }
  }
  join_tree(w, component, free, join);
  return join;
}

}  // namespace sslkernels::walks
