// Weak and strong components of a directed graph. Host only, as all of the directed walk.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "incidence.h"
#include "pages.h"
#include "spanning.h"

namespace sslkernels::walks {

// What a thread keeps for directed graphs; vectors keep their memory from graph to graph.
struct Directed {
  template <class T>
  using Vector = std::vector<T, PageAllocator<T>>;
  using List = Vector<uint32_t>;

  List component, component_begin;     // of a node; components' places in `order`
  List order;                          // nodes by component
  List region, region_begin, members;  // strong component of a node, or a component with an Euler trail
  List first_region;                   // of a component, sinks first
  Vector<int32_t> excess;              // in minus out; then the same inside the region (balance.h)
  List low, stack, visit, next;        // Tarjan's

  List times;            // how often an arc is still to be walked
  List walked;           // how often it has been
  List inner;            // next entry of a node's list to try
  List entries, ends;    // of a node: arcs into its region that enter here; how many trails end with one
  List stamp, from, by;  // of a search: when a node was met, from which node, over which arc
  List origin;           // and where that search began
  List queue, longest;   // longest: the route that cost most, last arc first
  uint32_t far_end = 0;  // node at which the longest route ends
  uint32_t searches = 0;

  std::vector<uint8_t> leads;  // of a region: do arcs lead out of it?
  List begins;                 // nodes where the trails of a component begin, one an entry
  Vector<Slot> trails;         // the trails one after another, each behind its first node
  List trail_begin;            // where each lies
  Vector<uint64_t> by_ends;    // region where a trail ends, then its number
};

SSLK_HOST_DEVICE uint32_t find_root(Directed::List& parent, uint32_t v) {
  while (parent[v] != v) v = parent[v] = parent[parent[v]];
  return v;
}

// Weak components, numbered as a scan of the nodes from `offset` on meets them.
inline void weak_components(const Workspace& w, uint32_t nodes, uint32_t offset, Directed& d) {
  d.low.resize(nodes);
  for (uint32_t v = 0; v < nodes; ++v) d.low[v] = v;
  d.excess.assign(nodes, 0);
  for (uint32_t v = 0; v < nodes; ++v) {
    const Slot* header = w.slots + w.begin[v];
    for (uint32_t s = 1; s <= header->edge; ++s) {
      --d.excess[v];
      ++d.excess[header[s].node];
      const uint32_t a = find_root(d.low, v), b = find_root(d.low, header[s].node);
      d.low[std::max(a, b)] = std::min(a, b);
    }
  }
  d.component.assign(nodes, kNone);
  d.component_begin.assign(1, 0);
  d.stack.assign(nodes, kNone);  // number of the component with this root
  for (uint32_t i = 0; i < nodes; ++i) {
    const uint32_t v = i < nodes - offset ? offset + i : i - (nodes - offset);
    uint32_t& number = d.stack[find_root(d.low, v)];
    if (number == kNone) {
      number = static_cast<uint32_t>(d.component_begin.size()) - 1;
      d.component_begin.push_back(0);
    }
    d.component[v] = number;
    ++d.component_begin[number + 1];
  }
  for (size_t c = 1; c < d.component_begin.size(); ++c) d.component_begin[c] += d.component_begin[c - 1];
  d.order.resize(nodes);
  d.next.assign(d.component_begin.begin(), d.component_begin.end());
  for (uint32_t i = 0; i < nodes; ++i) {
    const uint32_t v = i < nodes - offset ? offset + i : i - (nodes - offset);
    d.order[d.next[d.component[v]]++] = v;
  }
  d.stack.clear();
}

inline void close_region(Directed& d) { d.region_begin.push_back(static_cast<uint32_t>(d.members.size())); }

// Tarjan's strong components (SIAM J. Comput. 1, 1972) of what `root` reaches, without recursion; a region is
// numbered after all that it leads to.
inline void strong_regions(const Workspace& w, uint32_t root, uint32_t& clock, Directed& d) {
  d.visit.assign(1, root);
  d.low[root] = d.next[root] = clock++;
  d.stack.push_back(root);
  d.inner[root] = 1;
  while (!d.visit.empty()) {
    const uint32_t u = d.visit.back();
    const Slot* header = w.slots + w.begin[u];
    if (d.inner[u] <= header->edge) {
      const uint32_t v = header[d.inner[u]++].node;
      if (d.next[v] == kNone) {
        d.low[v] = d.next[v] = clock++;
        d.stack.push_back(v);
        d.inner[v] = 1;
        d.visit.push_back(v);
      } else if (d.region[v] == kNone) {
        d.low[u] = std::min(d.low[u], d.next[v]);
      }
      continue;
    }
    d.visit.pop_back();
    if (!d.visit.empty()) d.low[d.visit.back()] = std::min(d.low[d.visit.back()], d.low[u]);
    if (d.low[u] != d.next[u]) continue;
    const uint32_t number = static_cast<uint32_t>(d.region_begin.size()) - 1;
    for (uint32_t v = kNone; v != u;) {
      v = d.stack.back();
      d.stack.pop_back();
      d.region[v] = number;
      d.members.push_back(v);
    }
    close_region(d);
  }
}

}  // namespace sslkernels::walks
