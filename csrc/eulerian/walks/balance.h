// Which arcs a strong component repeats, so that as many enter each node as leave it.
#pragma once

#include <cstdint>
#include <vector>

#include "regions.h"

namespace sslkernels::walks {

// The route by which the running search came to `node`, walked once more; the longest is kept.
inline void add_route(Directed& d, uint32_t start, uint32_t node) {
  uint32_t length = 0;
  for (uint32_t v = node; v != start; v = d.from[v], ++length) ++d.times[d.by[v]];
  if (length <= d.longest.size()) return;
  d.longest.clear();
  d.far_end = node;
  for (uint32_t v = node; v != start; v = d.from[v]) d.longest.push_back(d.by[v]);
}

// Excess inside the region: arcs in minus arcs out. Returns how many arcs it has.
inline uint64_t region_excess(const Workspace& w, uint32_t region, Directed& d) {
  uint64_t arcs = 0;
  for (uint32_t i = d.region_begin[region]; i < d.region_begin[region + 1]; ++i) d.excess[d.members[i]] = 0;
  for (uint32_t i = d.region_begin[region]; i < d.region_begin[region + 1]; ++i) {
    const uint32_t v = d.members[i];
    const Slot* header = w.slots + w.begin[v];
    for (uint32_t s = 1; s <= header->edge; ++s) {
      if (d.region[header[s].node] != region) continue;
      --d.excess[v];
      ++d.excess[header[s].node];
      ++arcs;
    }
  }
  return arcs;
}

// Breadth-first inside the region from `start`, which has arcs in to spare, to nodes that lack some, until
// it has none to spare; returns how many entries were looked at.
inline uint64_t spread(const Workspace& w, uint32_t region, uint32_t start, Directed& d) {
  uint64_t looked = 0;
  const uint32_t search = ++d.searches;
  d.queue.assign(1, start);
  d.stamp[start] = search;
  for (size_t i = 0; i < d.queue.size(); ++i) {
    const uint32_t u = d.queue[i];
    const Slot* header = w.slots + w.begin[u];
    for (uint32_t s = 1; s <= header->edge; ++s) {
      ++looked;
      const Slot slot = header[s];
      if (d.region[slot.node] != region || d.stamp[slot.node] == search) continue;
      d.stamp[slot.node] = search;
      d.from[slot.node] = u;
      d.by[slot.node] = slot.edge;
      d.queue.push_back(slot.node);
      while (d.excess[slot.node] < 0 && d.excess[start] > 0) {
        ++d.excess[slot.node];
        --d.excess[start];
        add_route(d, start, slot.node);
      }
      if (d.excess[start] == 0) return looked;
    }
  }
  return looked;
}

// What is left is led over two trees, into the region's first member and out of it: linear, but longer.
inline void lead_over_root(const Workspace& w, uint32_t region, Directed& d) {
  const uint32_t begin = d.region_begin[region], end = d.region_begin[region + 1], root = d.members[begin];
  std::vector<Slot> into;  // arcs of the region by target: where they come from
  std::vector<uint32_t> place(end - begin + 1, 0);
  for (uint32_t i = begin; i < end; ++i) d.low[d.members[i]] = i - begin;
  const auto each_arc = [&](auto&& body) {
    for (uint32_t i = begin; i < end; ++i) {
      const Slot* header = w.slots + w.begin[d.members[i]];
      for (uint32_t s = 1; s <= header->edge; ++s) {
        if (d.region[header[s].node] == region) body(d.members[i], header[s]);
      }
    }
  };
  each_arc([&](uint32_t, Slot slot) { ++place[d.low[slot.node] + 1]; });
  for (uint32_t i = 0; i < end - begin; ++i) place[i + 1] += place[i];
  into.resize(place[end - begin]);
  std::vector<uint32_t> fill(place);
  each_arc([&](uint32_t u, Slot slot) { into[fill[d.low[slot.node]]++] = Slot{u, slot.edge}; });

  for (const bool inward : {true, false}) {
    const uint32_t search = ++d.searches;
    d.queue.assign(1, root);
    d.stamp[root] = search;
    for (size_t i = 0; i < d.queue.size(); ++i) {
      const uint32_t u = d.queue[i];
      const Slot* list = inward ? into.data() + place[d.low[u]] : w.slots + w.begin[u] + 1;
      const uint32_t length = inward ? place[d.low[u] + 1] - place[d.low[u]] : w.slots[w.begin[u]].edge;
      for (uint32_t s = 0; s < length; ++s) {
        const Slot slot = list[s];
        if (d.region[slot.node] != region || d.stamp[slot.node] == search) continue;
        d.stamp[slot.node] = search;
        d.from[slot.node] = u;
        d.by[slot.node] = slot.edge;
        d.queue.push_back(slot.node);
      }
    }
    for (size_t i = d.queue.size() - 1; i > 0; --i) {
      const uint32_t v = d.queue[i];
      const int32_t left = d.excess[v];
      if (inward ? left <= 0 : left >= 0) continue;
      d.times[d.by[v]] += static_cast<uint32_t>(left < 0 ? -left : left);
      d.excess[d.from[v]] += left;
      d.excess[v] = 0;
    }
  }
}

// Balances a region: arcs to spare go to the nearest nodes that lack some, member after member, for as long
// as that takes no more than kLooks looks at each entry; the rest goes over the root.
constexpr uint64_t kLooks = 64;

inline void balance(const Workspace& w, uint32_t region, Directed& d) {
  d.longest.clear();
  const uint64_t most = kLooks * region_excess(w, region, d);
  uint64_t looked = 0;
  for (uint32_t i = d.region_begin[region]; i < d.region_begin[region + 1]; ++i) {
    const uint32_t v = d.members[i];
    if (d.excess[v] <= 0) continue;
    if (looked > most) {
      d.longest.clear();
      lead_over_root(w, region, d);
      return;
    }
    looked += spread(w, region, v, d);
  }
}

}  // namespace sslkernels::walks
