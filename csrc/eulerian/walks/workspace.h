// The memory one thread works in, reused from graph to graph: no graph allocates.
#pragma once

#include <cstdint>

#include "../../common/philox.h"

namespace sslkernels::walks {

constexpr uint32_t kNone = 0xFFFFFFFFu;
constexpr uint32_t kMostChords = 12;   // non-tree edges whose every subset may be tried
constexpr uint32_t kLanes = 16;        // subsets tried at once
constexpr uint32_t kLaneNodes = 4096;  // nodes of a component whose subsets are tried
constexpr uint32_t kTableNodes = 13;   // odd nodes whose every pairing may be tried: 12 and `start`

// An entry of a node's incidence list: `edge` leads to `node`. Lists lie one after another, each behind a
// header with the node's own id and, as `edge`, the length of the list: a walk that comes to a node finds
// all it needs in one place of memory. For the walk itself (trail.h) `node` becomes the place of that node's
// header and the header's `edge` the next entry to try.
struct Slot {
  uint32_t node, edge;
};

// A node of the spanning tree, at its rank in breadth-first order.
struct TreeNode {
  uint32_t parent;    // rank in the component
  uint32_t edge;      // to the parent
  int32_t cost[3];    // fewest edges to repeat below with 0, 1, 2 free ends (spanning.h)
  uint8_t odd;        // must an odd number of repeated edges meet here?
  uint8_t parity;     // of the odd nodes at and below this one
  uint8_t choice;     // how many free ends go below this node: bit 0 of one, bits 1 and 2 of two
  uint8_t free_ends;  // free ends at and below this node, then at it
};

// Arrays over the n nodes and m columns of one graph; edges are numbered 0, 1, ... by their first column.
struct Workspace {
  uint32_t* mate;      // m: the other column of the pair; the column itself where it is alone
  uint32_t* sorted;    // m: columns by source, then by target
  uint32_t* first;     // m: an edge's first column
  uint32_t* begin;     // n + 1: header of a node's list
  uint32_t* cursor;    // n + 1
  Slot* slots;         // 2 m + n
  uint32_t* passes;    // m / 16 + 1: two bits an edge: how often it is still to be walked
  uint32_t* order;     // n: nodes in breadth-first order
  uint32_t* rank;      // n: place in that order
  TreeNode* tree;      // n + 1, by rank
  uint32_t* leave;     // n: node where a component's walk begins
  uint32_t* walked;    // n: edges a component's walk has
  uint32_t* turn;      // n: components in the order they are walked
  uint32_t* distance;  // n: edges from where a search began (join.h)
  uint32_t* queue;     // n
  Slot* via;           // n: the step by which a search came
  uint32_t* table;     // 2^kTableNodes: cheapest pairing of a subset of the odd nodes
  int16_t* lanes;      // 4 kLanes kLaneNodes (lanes.h)

  SSLK_HOST_DEVICE uint32_t passes_left(uint32_t edge) const {
    return passes[edge / 16] >> (2 * (edge % 16)) & 3u;
  }
  SSLK_HOST_DEVICE void take_pass(uint32_t edge) { passes[edge / 16] -= 1u << (2 * (edge % 16)); }
  SSLK_HOST_DEVICE void repeat(uint32_t edge) { passes[edge / 16] += 1u << (2 * (edge % 16)); }
};

// A hint that `address` is read soon; graphs larger than the caches spend their time waiting.
SSLK_HOST_DEVICE void soon([[maybe_unused]] const void* address) {
#if defined(__GNUC__) && !defined(__CUDA_ARCH__)
  __builtin_prefetch(address);
#endif
}

// Hands out a block in aligned arrays; only measures where the block is null.
class Carver {
 public:
  SSLK_HOST_DEVICE explicit Carver(char* block) : block_(block) {}
  template <class T>
  SSLK_HOST_DEVICE void take(T*& array, int64_t count) {
    if (block_ != nullptr) array = reinterpret_cast<T*>(block_ + used_);
    used_ += (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
  }
  SSLK_HOST_DEVICE int64_t used() const { return used_; }

 private:
  char* block_;
  int64_t used_ = 0;
};

// The arrays of a graph of up to `nodes` nodes and `columns` columns in `block`; returns their bytes.
SSLK_HOST_DEVICE int64_t carve(Workspace& w, char* block, int64_t nodes, int64_t columns) {
  Carver carver(block);
  carver.take(w.mate, columns);
  carver.take(w.sorted, columns);
  carver.take(w.first, columns);
  carver.take(w.begin, nodes + 1);
  carver.take(w.cursor, nodes + 1);
  carver.take(w.slots, 2 * columns + nodes);
  carver.take(w.passes, columns / 16 + 1);
  carver.take(w.order, nodes + 1);
  carver.take(w.rank, nodes);
  carver.take(w.tree, nodes + 1);
  carver.take(w.leave, nodes);
  carver.take(w.walked, nodes);
  carver.take(w.turn, nodes);
  carver.take(w.distance, nodes);
  carver.take(w.queue, nodes);
  carver.take(w.via, nodes);
  carver.take(w.table, int64_t{1} << kTableNodes);
  carver.take(w.lanes, int64_t{4} * kLanes * (nodes < kLaneNodes ? nodes : kLaneNodes));
  return carver.used();
}

}  // namespace sslkernels::walks
