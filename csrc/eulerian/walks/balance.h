// Which arcs a strong component repeats, so that as many enter each node as leave it, and where the trails
// that pass through it begin and end.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "regions.h"

namespace sslkernels::walks {

// What balancing a region has cost so far, and what is left of it.
struct Effort {
  uint64_t arcs = 0;      // entries in the lists of its nodes
  uint64_t looked = 0;    // entries looked at
  uint64_t repeated = 0;  // passes added
  uint64_t surplus = 0;   // arcs to spare
};

// Ends at v trails that enter the region there.
inline void end_at(Directed& d, uint32_t v, uint32_t count) {
  d.excess[v] -= static_cast<int32_t>(count);
  d.entries[v] -= count;
  d.ends[v] += count;
}

// Ends at v as many trails as have no way on.
inline void end_spare(Directed& d, uint32_t v, Effort& effort) {
  const uint32_t count = std::min(d.entries[v], static_cast<uint32_t>(std::max(d.excess[v], 0)));
  end_at(d, v, count);
  effort.surplus -= count;
}

// More arcs lead into the region than out of it: so many trails end in it, at nodes with arcs to spare if
// they can.
inline void end_surplus(uint32_t region, Directed& d) {
  const uint32_t begin = d.region_begin[region], end = d.region_begin[region + 1];
  int64_t surplus = 0;
  for (uint32_t i = begin; i < end; ++i) surplus += d.excess[d.members[i]];
  for (const bool anywhere : {false, true}) {
    for (uint32_t i = begin; i < end && surplus > 0; ++i) {
      const uint32_t v = d.members[i];
      int64_t count = std::min<int64_t>(surplus, d.entries[v]);
      if (!anywhere) count = std::min<int64_t>(count, std::max(d.excess[v], 0));
      end_at(d, v, static_cast<uint32_t>(count));
      surplus -= count;
    }
  }
}

// Arcs to spare at `origin` are led by the route of the running search to `last` and over `arc`; the longest
// route is kept. Trails that could as well end at `origin` do so once the region repeats more passes than it
// has arcs.
inline void lead(Directed& d, uint32_t origin, uint32_t last, const Slot& arc, Effort& effort) {
  uint64_t length = 1;
  for (uint32_t v = last; v != origin; v = d.from[v]) ++length;
  uint32_t units = static_cast<uint32_t>(std::min(d.excess[origin], -d.excess[arc.node]));
  if (d.entries[origin] > 0 && effort.repeated + length * units > effort.arcs) {
    end_spare(d, origin, effort);
    units = std::min(units, static_cast<uint32_t>(d.excess[origin]));
  }
  if (units == 0) return;
  effort.repeated += length * units;
  effort.surplus -= units;
  d.excess[origin] -= static_cast<int32_t>(units);
  d.excess[arc.node] += static_cast<int32_t>(units);
  d.times[arc.edge] += units;
  for (uint32_t v = last; v != origin; v = d.from[v]) d.times[d.by[v]] += units;
  if (length <= d.longest.size()) return;
  d.longest.assign(1, arc.edge);
  d.far_end = arc.node;
  for (uint32_t v = last; v != origin; v = d.from[v]) d.longest.push_back(d.by[v]);
}

// Hints for a search that stands at place i of its queue: it will read what lies scattered in memory.
inline void soon_searched(const Workspace& w, const Directed& d, size_t i) {
  constexpr size_t kBegin = 24, kList = 16, kNodes = 8;
  constexpr uint32_t kMost = 8;
  const size_t size = d.queue.size();
  if (i + kBegin < size) soon(&w.begin[d.queue[i + kBegin]]);
  if (i + kList < size) soon(&w.slots[w.begin[d.queue[i + kList]]]);
  if (i + kNodes >= size) return;
  const Slot* header = w.slots + w.begin[d.queue[i + kNodes]];
  for (uint32_t s = 1; s <= std::min(header->edge, kMost); ++s) {
    soon(&d.region[header[s].node]);
    soon(&d.stamp[header[s].node]);
    soon(&d.excess[header[s].node]);
  }
}

// Breadth-first inside the region from all origins at once, which have arcs in to spare, to nodes that lack
// some. A node is searched from for the origin that met it first, and for as long as that has arcs to spare.
inline void spread(const Workspace& w, uint32_t region, const Directed::List& origins, Directed& d,
                   Effort& effort) {
  const uint32_t search = ++d.searches;
  d.queue.assign(origins.begin(), origins.end());
  for (const uint32_t v : origins) {
    d.stamp[v] = search;
    d.origin[v] = v;
  }
  for (size_t i = 0; i < d.queue.size() && effort.surplus > 0; ++i) {
    soon_searched(w, d, i);
    const uint32_t u = d.queue[i], origin = d.origin[u];
    const Slot* header = w.slots + w.begin[u];
    for (uint32_t s = 1; s <= header->edge && d.excess[origin] > 0; ++s) {
      ++effort.looked;
      const Slot slot = header[s];
      if (d.region[slot.node] != region) continue;
      if (d.excess[slot.node] < 0) lead(d, origin, u, slot, effort);
      if (d.stamp[slot.node] == search) continue;
      d.stamp[slot.node] = search;
      d.origin[slot.node] = origin;
      d.from[slot.node] = u;
      d.by[slot.node] = slot.edge;
      d.queue.push_back(slot.node);
    }
  }
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

// Trails begin where arcs in are still lacking, as many as the region lacks in all.
inline void begin_trails(uint32_t region, Directed& d) {
  const uint32_t begin = d.region_begin[region], end = d.region_begin[region + 1];
  int64_t lack = 0;
  for (uint32_t i = begin; i < end; ++i) lack -= d.excess[d.members[i]];
  for (uint32_t i = begin; i < end && lack > 0; ++i) {
    const uint32_t v = d.members[i];
    for (; d.excess[v] < 0 && lack > 0; --lack, ++d.excess[v]) d.begins.push_back(v);
  }
}

// Balances a region, so that trails pass through every node: excess is arcs in minus arcs out on entry. Arcs
// to spare go to near nodes that lack some, search after search, for as long as that takes no more than
// kLooks looks at each entry; the rest goes over the root.
constexpr uint64_t kLooks = 64;

inline void balance(const Workspace& w, uint32_t region, Directed& d) {
  const uint32_t begin = d.region_begin[region], end = d.region_begin[region + 1];
  d.longest.clear();
  end_surplus(region, d);
  Effort effort;
  d.visit.clear();  // nodes with arcs to spare
  for (uint32_t i = begin; i < end; ++i) {
    const uint32_t v = d.members[i];
    effort.arcs += w.slots[w.begin[v]].edge;
    if (d.excess[v] <= 0) continue;
    effort.surplus += static_cast<uint64_t>(d.excess[v]);
    d.visit.push_back(v);
  }
  const auto has_none = [&](uint32_t v) { return d.excess[v] == 0; };
  while (effort.surplus > 0 && effort.looked <= kLooks * effort.arcs) {
    spread(w, region, d.visit, d, effort);
    d.visit.erase(std::remove_if(d.visit.begin(), d.visit.end(), has_none), d.visit.end());
  }
  for (const uint32_t v : d.visit) end_spare(d, v, effort);
  begin_trails(region, d);
  if (effort.surplus == 0) return;
  d.longest.clear();
  lead_over_root(w, region, d);
}

}  // namespace sslkernels::walks
