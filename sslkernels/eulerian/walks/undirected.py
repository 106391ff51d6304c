"""The walk of an undirected graph in plain Python: the oracle of csrc/eulerian/walks, ties included.

An incidence list holds (other node, edge); edges are numbered by their first column.
"""

from collections import defaultdict, deque
from dataclasses import dataclass, field
from itertools import combinations
from math import inf

from sslkernels.eulerian.walks.words import Words, bounded, enter, scan_order, take_turns

Column = tuple[int, int]
Step = tuple[int, int]  # node, column by which it was entered
FIRST, JUMP = -1, -2
MOST_CHORDS, LANE_NODES, TABLE_NODES = 12, 4096, 13


def pair_columns(columns: list[Column]) -> list[int]:
    """First columns of the edges: the k-th (u, v) and the k-th (v, u) are one, self-loops stand alone."""
    waiting: dict[Column, deque[int]] = defaultdict(deque)
    first = []
    for place, (u, v) in enumerate(columns):
        if u != v and waiting[v, u]:
            waiting[v, u].popleft()
            continue
        first.append(place)
        if u != v:
            waiting[u, v].append(place)
    return first


def incidence(nodes: int, edges: list[Column], words: Words) -> list[list[Step]]:
    """Edges in ascending order at both ends, a self-loop twice; shuffled as they enter."""
    drawn = iter(words.of_entries(2 * len(edges))) if words.shuffle else None
    draw = None if drawn is None else drawn.__next__
    lists: list[list[Step]] = [[] for _ in range(nodes)]
    for k, (u, v) in enumerate(edges):
        enter(lists[u], (v, k), draw)
        enter(lists[v], (u, k), draw)
    return lists


@dataclass
class Component:
    """A breadth-first spanning tree; everything is by rank in `order`."""

    order: list[int]
    parent: list[int] = field(default_factory=list)
    edge: list[int] = field(default_factory=list)  # to the parent
    odd: list[int] = field(default_factory=list)  # must an odd number of repeated edges meet here?
    chords: list[tuple[int, int, int]] = field(default_factory=list)  # (lower rank, higher rank, edge)
    edges: int = 0


def span(lists: list[list[Step]], root: int, rank: dict[int, int]) -> Component:
    component = Component([root], [-1], [-1])
    rank[root] = 0
    reached = {root}
    for place, u in enumerate(component.order):
        component.odd.append(len(lists[u]) % 2)
        component.edges += len(lists[u])
        for v, k in lists[u]:
            if v not in reached:
                reached.add(v)
                rank[v] = len(component.order)
                component.order.append(v)
                component.parent.append(place)
                component.edge.append(k)
            elif rank[v] > place:
                component.chords.append((place, rank[v], k))
    component.edges //= 2
    return component


# -- the minimum T-join --------------------------------------------------------------------------------------


def tree_costs(component: Component, odd: list[int]) -> tuple[list[list[int]], list[int], list[list[int]]]:
    """Bottom-up: the fewest repeated tree edges below a node with 0, 1, 2 free ends there, the parity of the
    odd nodes, and how many free ends go below each node when its parent has 0, 1, 2 left to place."""
    size = len(component.order)
    cost, parity = [[0, 0, 0] for _ in range(size)], list(odd)
    choice = [[0, 0, 0] for _ in range(size)]
    for i in range(size - 1, 0, -1):
        p = component.parent[i]
        up = [cost[i][ends] + (parity[i] ^ (ends & 1)) for ends in range(3)]
        node = list(cost[p])
        for free in range(3):
            splits = [node[free - ends] + up[ends] for ends in range(free + 1)]
            cost[p][free] = min(splits)
            choice[i][free] = splits.index(cost[p][free])
        parity[p] ^= parity[i]
    return cost, parity, choice


def join_tree(component: Component, odd: list[int], free: int) -> tuple[list[int], list[int]]:
    """Repeated tree edges, and the ranks of the free ends where there are two."""
    _, parity, choice = tree_costs(component, odd)
    left, repeated = [free, *[0] * (len(component.order) - 1)], []
    for i in range(1, len(component.order)):
        p = component.parent[i]
        left[i] = choice[i][left[p]]
        left[p] -= left[i]
        if parity[i] ^ (left[i] & 1):
            repeated.append(component.edge[i])
    ends = [i for i, count in enumerate(left) if count == 1] if free == 2 else []
    return repeated, ends[:2]


def with_chords(component: Component, chosen: list[tuple[int, int, int]]) -> list[int]:
    odd = list(component.odd)
    for a, b, _ in chosen:
        odd[a] ^= 1
        odd[b] ^= 1
    return odd


def best_chords(component: Component, free: int) -> list[tuple[int, int, int]]:
    """The subset whose tree join costs least; among equals the least as a binary number."""
    best, least = [], None
    for mask in range(1 << len(component.chords)):
        chosen = [chord for c, chord in enumerate(component.chords) if mask >> c & 1]
        cost = len(chosen) + tree_costs(component, with_chords(component, chosen))[0][0][free]
        if least is None or cost < least:
            best, least = chosen, cost
    return best


def greedy_chords(component: Component, lists: list[list[Step]], rank: dict[int, int]) -> list:
    """Leaves first: an odd node is joined to the first odd one of lower rank in its list, or its parent."""
    open_ends, chosen = list(component.odd), []
    for i in range(len(component.order) - 1, 0, -1):
        if not open_ends[i]:
            continue
        other = component.parent[i]
        for v, k in lists[component.order[i]]:
            if rank[v] < i and open_ends[rank[v]]:
                other = rank[v]
                if k != component.edge[i]:
                    chosen.append((other, i, k))
                break
        open_ends[other] ^= 1
    return chosen


def search(lists: list[list[Step]], source: int) -> dict[int, tuple[int, Step]]:
    """Breadth-first from a node: distance and (node, edge) by which each was reached."""
    found = {source: (0, (-1, -1))}
    queue = deque([source])
    while queue:
        u = queue.popleft()
        for v, k in lists[u]:
            if v not in found:
                found[v] = (found[u][0] + 1, (u, k))
                queue.append(v)
    return found


def join_pairs(component: Component, lists: list[list[Step]], free: int) -> tuple[list[int], list[int]]:
    """Every pairing of the odd nodes: table[mask] is the cheapest of those in `mask`."""
    ranks = [i for i, odd in enumerate(component.odd) if odd]
    nodes = [component.order[i] for i in ranks]
    found = [search(lists, node) for node in nodes]
    distance = [[found[i][v][0] for v in nodes] for i in range(len(nodes))]
    everyone = (1 << len(nodes)) - 1
    table: list[float] = [0, *[inf] * everyone]
    partner = [0] * (everyone + 1)
    for mask in range(1, everyone + 1):
        i = (mask & -mask).bit_length() - 1
        for j in range(i + 1, len(nodes)):
            cost = table[mask ^ 1 << i ^ 1 << j] + distance[i][j] if mask >> j & 1 else inf
            if cost < table[mask]:
                table[mask], partner[mask] = cost, j
    left_out = min(
        combinations(range(len(nodes)), free), key=lambda ends: table[everyone ^ sum(1 << i for i in ends)]
    )
    mask, repeated = everyone ^ sum(1 << i for i in left_out), []
    while mask:
        i = (mask & -mask).bit_length() - 1
        v = nodes[partner[mask]]
        while v != nodes[i]:
            v, k = found[i][v][1]
            repeated.append(k)
        mask ^= 1 << i | 1 << partner[mask]
    return repeated, [ranks[i] for i in left_out] if free == 2 else []


def join(
    component: Component, lists: list[list[Step]], rank: dict[int, int], free: int
) -> tuple[list[int], list[int]]:
    """Edges to walk twice, and the ranks of the two ends of an open walk."""
    odd, chords, size = sum(component.odd), len(component.chords), len(component.order)
    if odd <= free:
        return [], [i for i, is_odd in enumerate(component.odd) if is_odd] if free == 2 else []
    subsets = size <= LANE_NODES and chords <= MOST_CHORDS and size << chords <= 1 << 20
    chosen: list[tuple[int, int, int]] = []
    if subsets and chords <= 8:
        chosen = best_chords(component, free)
    elif odd <= TABLE_NODES and chords > 0:
        return join_pairs(component, lists, free)
    elif subsets:
        chosen = best_chords(component, free)
    elif chords > 0:
        chosen = greedy_chords(component, lists, rank)
    repeated, ends = join_tree(component, with_chords(component, chosen), free)
    return [k for _, _, k in chosen] + repeated, ends


# -- the walk ------------------------------------------------------------------------------------------------


def hierholzer(lists: list[list[Step]], start: int, passes: list[int], cursor: list[int]) -> list[Step]:
    """Every edge as often as `passes` says, from `start`; steps are (node, edge)."""
    stack, done = [(start, FIRST)], []
    while stack:
        u = stack[-1][0]
        while cursor[u] < len(lists[u]) and passes[lists[u][cursor[u]][1]] == 0:
            cursor[u] += 1
        if cursor[u] == len(lists[u]):
            done.append(stack.pop())
        else:
            v, k = lists[u][cursor[u]]
            passes[k] -= 1
            stack.append((v, k))
    return done[::-1]


def beginning(component: Component, ends: list[int], words: list[int]) -> int:
    if ends:
        low, high = sorted(component.order[i] for i in ends)
        return high if words[1] >> 31 else low
    return component.order[bounded(words[0], len(component.order))]


def walk(nodes: int, columns: list[Column], *, closed: bool, start: int, words: Words) -> list[Step]:
    """Steps (node, column of the graph, FIRST or JUMP) of one graph; start -1 is free."""
    if nodes == 0:
        return []
    first = pair_columns(columns)
    lists = incidence(nodes, [columns[c] for c in first], words)
    passes = [1] * len(first)
    rank: dict[int, int] = {}
    begin: list[int] = []
    bound = None
    for root in scan_order(nodes, words):
        if root in rank:
            continue
        component = span(lists, root, rank)
        number, free = len(begin), 0 if closed else 2
        here = bound is None and start in component.order if start >= 0 else False
        if here:
            bound = number
        if here and not closed:
            free = 1
            component.odd[rank[start]] ^= 1
        repeated, ends = join(component, lists, rank, free)
        for k in repeated:
            passes[k] = 2
        begin.append(start if here else beginning(component, ends, words.of_component(number)))
    steps: list[Step] = []
    cursor = [0] * nodes
    for number in take_turns(len(begin), bound, words):
        trail = hierholzer(lists, begin[number], passes, cursor)
        steps.append((begin[number], JUMP if steps else FIRST))
        steps += [(node, first[k]) for node, k in trail[1:]]
    return steps
