// Components, their breadth-first spanning trees, and what must be repeated in a tree.
#pragma once

#include <cstdint>

#include "../../common/bounds.h"
#include "workspace.h"

namespace sslkernels::walks {

// A non-tree edge, by the ranks of its ends in the component.
struct Chord {
  uint32_t a, b, edge;
};

struct Component {
  uint32_t base = 0, size = 0;   // ranks [base, base + size)
  uint32_t edges = 0;            // self-loops included
  uint32_t odd = 0;              // nodes that must meet an odd number of repeated edges
  uint32_t chords = 0;           // how many non-tree edges there are; the first kMostChords are listed
  Chord chord[kMostChords + 1];  // the last is room to write without asking
};

// What is walked twice, and between which nodes (ranks in the component) an open walk may then run.
struct Join {
  uint32_t repeated = 0;
  uint32_t end[2] = {kNone, kNone};
};

// Breadth-first from `root`, which gets rank `base`; edges in the order of the lists. A chord is noted at its
// end of lower rank. Nodes not reached yet have rank kNone. No branch of the inner loop depends on the graph.
SSLK_HOST_DEVICE void span(Workspace& w, uint32_t root, uint32_t base, Component& component) {
  uint32_t reached = base + 1, entries = 0, odd = 0, chords = 0;
  component.base = base;
  w.rank[root] = base;
  w.order[base] = root;
  w.tree[base].parent = w.tree[base].edge = kNone;
  for (uint32_t i = base; i < reached; ++i) {
    if (IN_BOUNDS(i + 8 < reached)) soon(&w.slots[w.begin[w.order[i + 8]]]);
    const Slot* header = w.slots + w.begin[w.order[i]];
    const uint32_t length = header->edge;
    TreeNode& node = w.tree[i];
    node.odd = node.parity = length & 1;
    node.cost[0] = node.cost[1] = node.cost[2] = 0;
    odd += length & 1;
    entries += length;
    for (uint32_t s = 1; s <= length; ++s) {
      const Slot slot = header[s];
      const uint32_t rank = w.rank[slot.node];
      const bool fresh = rank == kNone, chord = !fresh & (rank > i);
      w.rank[slot.node] = fresh ? reached : rank;
      w.order[reached] = slot.node;
      w.tree[reached].parent = i - base;
      w.tree[reached].edge = slot.edge;
      reached += fresh;
      component.chord[CLAMPED(chords, 0, kMostChords)] = Chord{i - base, rank - base, slot.edge};
      chords += chord;
    }
  }
  component.size = reached - base;
  component.edges = entries / 2;
  component.odd = odd;
  component.chords = chords;
}

// The fewest tree edges to repeat so that every node meets an odd number exactly where `odd` says so, but
// for `free` (0, 1 or 2) nodes of our choice: bottom-up, three costs a node; among equals the fewest free
// ends below the later child. They are noted in w.passes.
SSLK_HOST_DEVICE void join_tree(Workspace& w, const Component& component, uint32_t free, Join& join) {
  TreeNode* tree = w.tree + component.base;
  for (uint32_t i = component.size - 1; i > 0; --i) {
    TreeNode& child = tree[i];
    TreeNode& node = tree[child.parent];
    const int32_t odd = child.parity;
    const int32_t up0 = child.cost[0] + odd, up1 = child.cost[1] + 1 - odd, up2 = child.cost[2] + odd;
    int32_t two = node.cost[2] + up0, one = node.cost[1] + up0;
    const int32_t both = node.cost[1] + up1, below = node.cost[0] + up2, single = node.cost[0] + up1;
    uint32_t choice = single < one;
    one = single < one ? single : one;
    choice |= both < two ? 2u : 0u;
    two = both < two ? both : two;
    choice = below < two ? (choice & 1u) | 4u : choice;
    two = below < two ? below : two;
    child.choice = static_cast<uint8_t>(choice);
    node.cost[0] += up0;
    node.cost[1] = one;
    node.cost[2] = two;
    node.parity ^= odd;
  }
  uint32_t repeated = 0;
  tree[0].free_ends = static_cast<uint8_t>(free);
  for (uint32_t i = 1; i < component.size; ++i) {
    TreeNode& child = tree[i];
    TreeNode& node = tree[child.parent];
    const uint32_t ends = node.free_ends == 0   ? 0u
                          : node.free_ends == 1 ? child.choice & 1u
                                                : child.choice >> 1;
    node.free_ends -= static_cast<uint8_t>(ends);
    child.free_ends = static_cast<uint8_t>(ends);
    if ((child.parity ^ ends) & 1) {
      w.repeat(child.edge);
      ++repeated;
    }
  }
  join.repeated += repeated;
  for (uint32_t i = 0, found = 0; free == 2 && found < 2 && i < component.size; ++i) {
    if (tree[i].free_ends == 1) join.end[found++] = i;
  }
}

// Repeats a chord: its ends then need one repeated edge less, or one more.
SSLK_HOST_DEVICE void repeat_chord(Workspace& w, const Component& component, uint32_t a, uint32_t b,
                                   uint32_t edge, Join& join) {
  TreeNode* tree = w.tree + component.base;
  w.repeat(edge);
  ++join.repeated;
  tree[a].odd ^= 1;
  tree[a].parity = tree[a].odd;
  tree[b].odd ^= 1;
  tree[b].parity = tree[b].odd;
}

}  // namespace sslkernels::walks
