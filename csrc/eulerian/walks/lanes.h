// The best subset of the chords to repeat: join_tree's costs for kLanes subsets at once.
#pragma once

#include <cstdint>

#include "spanning.h"
#include "words.h"

namespace sslkernels::walks {

// In which lanes of a block a chord is repeated: the first four chords by the lane's number, later ones by
// the block's, in all of its lanes or in none.
constexpr uint32_t kLaneBits = 4;
static_assert(kLanes == 1u << kLaneBits);
constexpr int16_t kTaken[kLaneBits + 2][kLanes] = {{0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1},
                                                   {0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1},
                                                   {0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1},
                                                   {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1},
                                                   {},
                                                   {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}};

// Lane l stands for the subset block * kLanes + l. A node has four rows of lanes: parity, then costs with
// 0, 1 and 2 free ends. After it, the costs of the root are in its rows.
[[maybe_unused]] SSLK_WALK_CLONES static void cost_of_lanes(const TreeNode* __restrict tree, uint32_t size,
                                                            const Chord* __restrict chord, uint32_t chords,
                                                            uint32_t block, int16_t* __restrict rows) {
  constexpr uint32_t kRow = 4 * kLanes;
  for (uint32_t i = 0; i < size; ++i) {
    int16_t* row = rows + i * kRow;
    const int16_t odd = tree[i].odd;
    for (uint32_t l = 0; l < kLanes; ++l) row[l] = odd;
    for (uint32_t l = 0; l < kLanes; ++l) row[kLanes + l] = 0;
    for (uint32_t l = 0; l < kLanes; ++l) row[2 * kLanes + l] = 0;
    for (uint32_t l = 0; l < kLanes; ++l) row[3 * kLanes + l] = 0;
  }
  for (uint32_t c = 0; c < chords; ++c) {
    int16_t* a = rows + chord[c].a * kRow;
    int16_t* b = rows + chord[c].b * kRow;
#if defined(__CUDA_ARCH__)  // device code cannot index the table
    for (uint32_t l = 0; l < kLanes; ++l) {
      const int16_t taken = (c < kLaneBits ? l >> c : block >> (c - kLaneBits)) & 1u;
      a[l] ^= taken;
      b[l] ^= taken;
    }
#else
    const int16_t* taken = kTaken[c < kLaneBits ? c : kLaneBits + (block >> (c - kLaneBits) & 1u)];
    for (uint32_t l = 0; l < kLanes; ++l) a[l] ^= taken[l];
    for (uint32_t l = 0; l < kLanes; ++l) b[l] ^= taken[l];
#endif
  }
  for (uint32_t i = size - 1; i > 0; --i) {
    const int16_t* __restrict child = rows + i * kRow;
    int16_t* __restrict node = rows + tree[i].parent * kRow;
    for (uint32_t l = 0; l < kLanes; ++l) {
      const int16_t odd = child[l];
      const int16_t up0 = child[kLanes + l] + odd, up1 = child[2 * kLanes + l] + 1 - odd;
      const int16_t up2 = child[3 * kLanes + l] + odd;
      const int16_t none = node[kLanes + l], one = node[2 * kLanes + l], two = node[3 * kLanes + l];
      const int16_t two0 = two + up0, two1 = one + up1, two2 = none + up2, one0 = one + up0,
                    one1 = none + up1;
      const int16_t least = two0 < two1 ? two0 : two1;
      node[l] ^= odd;
      node[kLanes + l] = none + up0;
      node[2 * kLanes + l] = one0 < one1 ? one0 : one1;
      node[3 * kLanes + l] = least < two2 ? least : two2;
    }
  }
}

// How many bits are set; the builtin is a call where no flag promises the instruction.
SSLK_HOST_DEVICE int32_t bits_of(uint32_t mask) {
  int32_t bits = 0;
  for (; mask != 0; mask &= mask - 1) ++bits;
  return bits;
}

// Repeats the best subset of the chords; among equals the one that is least as a binary number.
SSLK_HOST_DEVICE void repeat_best_chords(Workspace& w, const Component& component, uint32_t free,
                                         Join& join) {
  const TreeNode* tree = w.tree + component.base;
  const uint32_t subsets = 1u << component.chords;
  uint32_t best = 0;
  int32_t least = INT32_MAX;
  for (uint32_t first = 0; first < subsets; first += kLanes) {
    cost_of_lanes(tree, component.size, component.chord, component.chords, first / kLanes, w.lanes);
    const int16_t* cost = w.lanes + (1 + free) * kLanes;
    for (uint32_t l = 0; l < kLanes && first + l < subsets; ++l) {
      const int32_t all = cost[l] + bits_of(first + l);
      if (all < least) {
        least = all;
        best = first + l;
      }
    }
  }
  for (uint32_t c = 0; c < component.chords; ++c) {
    if (best >> c & 1u) {
      const Chord& chord = component.chord[c];
      repeat_chord(w, component, chord.a, chord.b, chord.edge, join);
    }
  }
}

}  // namespace sslkernels::walks
