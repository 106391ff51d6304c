"""The walk of a directed graph in plain Python: the oracle of csrc/eulerian/walks/directed.h.

An incidence list holds (target, column) of the arcs out of a node. A region is a strong component, or a whole
component that has an Euler trail.
"""

from dataclasses import dataclass, field

from sslkernels.eulerian.walks.undirected import FIRST, JUMP, Column, Step
from sslkernels.eulerian.walks.words import Words, bounded, enter, scan_order, take_turns

LOOKS = 64


def arcs_out(nodes: int, columns: list[Column], words: Words) -> list[list[Step]]:
    drawn = iter(words.of_entries(len(columns))) if words.shuffle else None
    draw = None if drawn is None else drawn.__next__
    lists: list[list[Step]] = [[] for _ in range(nodes)]
    for k, (u, v) in enumerate(columns):
        enter(lists[u], (v, k), draw)
    return lists


def weak_components(nodes: int, columns: list[Column], order: list[int]) -> list[list[int]]:
    """Components numbered as `order` meets them, their nodes in that order."""
    neighbours: list[list[int]] = [[] for _ in range(nodes)]
    for u, v in columns:
        neighbours[u].append(v)
        neighbours[v].append(u)
    number = [-1] * nodes
    components: list[list[int]] = []
    for root in order:
        if number[root] < 0:
            number[root] = len(components)
            todo = [root]
            while todo:
                for v in neighbours[todo.pop()]:
                    if number[v] < 0:
                        number[v] = number[root]
                        todo.append(v)
            components.append([])
        components[number[root]].append(root)
    return components


def strong_regions(lists: list[list[Step]], roots: list[int]) -> list[list[int]]:
    """Tarjan's strong components, each after all that it leads to."""
    low: dict[int, int] = {}
    met: dict[int, int] = {}
    closed: set[int] = set()
    stack: list[int] = []
    regions = []
    for root in roots:
        if root in met:
            continue
        visit, cursor = [root], {root: 0}
        low[root] = met[root] = len(met)
        stack.append(root)
        while visit:
            u = visit[-1]
            if cursor[u] < len(lists[u]):
                v = lists[u][cursor[u]][0]
                cursor[u] += 1
                if v not in met:
                    low[v] = met[v] = len(met)
                    stack.append(v)
                    cursor[v] = 0
                    visit.append(v)
                elif v not in closed:
                    low[u] = min(low[u], met[v])
                continue
            visit.pop()
            if visit:
                low[visit[-1]] = min(low[visit[-1]], low[u])
            if low[u] == met[u]:
                at = stack.index(u)
                regions.append(stack[at:][::-1])
                closed.update(stack[at:])
                del stack[at:]
    return regions


@dataclass
class Balance:
    """A region's arcs inside it, what it repeats, and the longest repeated route."""

    members: list[int]
    inside: dict[int, list[tuple[int, int, bool]]]  # (target, column, inside the region?)
    times: dict[int, int] = field(default_factory=dict)
    longest: list[int] = field(default_factory=list)
    far_end: int = -1

    def spread(self, start: int, excess: dict[int, int]) -> int:
        looked, came, queue = 0, {start: (-1, -1)}, [start]
        for u in queue:
            for v, k, local in self.inside[u]:
                looked += 1
                if not local or v in came:
                    continue
                came[v] = (u, k)
                queue.append(v)
                while excess[v] < 0 < excess[start]:
                    excess[v] += 1
                    excess[start] -= 1
                    self.add_route(start, v, came)
                if excess[start] == 0:
                    return looked
        return looked

    def add_route(self, start: int, node: int, came: dict[int, tuple[int, int]]) -> None:
        route, v = [], node
        while v != start:
            v, k = came[v]
            route.append(k)
            self.times[k] += 1
        if len(route) > len(self.longest):
            self.longest, self.far_end = route, node

    def lead_over_root(self, excess: dict[int, int]) -> None:
        into: dict[int, list[Step]] = {v: [] for v in self.members}
        for u in self.members:
            for v, k, local in self.inside[u]:
                if local:
                    into[v].append((u, k))
        out = {u: [(v, k) for v, k, local in self.inside[u] if local] for u in self.members}
        for sign, lists in ((1, into), (-1, out)):
            came, queue = {self.members[0]: (-1, -1)}, [self.members[0]]
            for u in queue:
                for v, k in lists[u]:
                    if v not in came:
                        came[v] = (u, k)
                        queue.append(v)
            for v in queue[:0:-1]:
                if sign * excess[v] > 0:
                    other, k = came[v]
                    self.times[k] += abs(excess[v])
                    excess[other] += excess[v]
                    excess[v] = 0


def balance(lists: list[list[Step]], members: list[int]) -> Balance:
    """Arcs to spare go to the nearest nodes that lack some; past LOOKS looks an arc over the first member."""
    own = set(members)
    result = Balance(members, {u: [(v, k, v in own) for v, k in lists[u]] for u in members})
    excess = dict.fromkeys(members, 0)
    for u in members:
        for v, k, local in result.inside[u]:
            if local:
                excess[u] -= 1
                excess[v] += 1
                result.times[k] = 1
    most, looked = LOOKS * len(result.times), 0
    for v in members:
        if excess[v] <= 0:
            continue
        if looked > most:
            result.longest = []
            result.lead_over_root(excess)
            break
        looked += result.spread(v, excess)
    return result


class Walk:
    """One graph on its way; `steps` are (node, column)."""

    def __init__(self, nodes: int, columns: list[Column], closed: bool, start: int, words: Words) -> None:
        self.closed, self.start, self.words = closed, start, words
        self.lists = arcs_out(nodes, columns, words)
        self.components = weak_components(nodes, columns, scan_order(nodes, words))
        self.excess = [0] * nodes
        for u, v in columns:
            self.excess[u] -= 1
            self.excess[v] += 1
        self.regions: list[list[list[int]]] = []  # of each component
        self.trails: list[bool] = []
        self.region = [(-1, -1)] * nodes
        for c, members in enumerate(self.components):
            self.trails.append(self.trail_begin(members) is not None)
            self.regions.append([members] if self.trails[c] else strong_regions(self.lists, members))
            for r, own in enumerate(self.regions[c]):
                for v in own:
                    self.region[v] = (c, r)
        self.times = [1] * len(columns)
        self.walked = [0] * len(columns)
        self.dead: set[int] = set()
        self.done: set[tuple[int, int]] = set()
        self.steps: list[Step] = []

    def trail_begin(self, members: list[int]) -> int | None:
        """Where the component's Euler trail begins (-1: anywhere); None: it has none from where it must."""
        odd = [v for v in members if self.excess[v] != 0]
        if not odd:
            return -1
        if sum(abs(self.excess[v]) for v in odd) != 2 or self.closed:
            return None
        begin = next(v for v in odd if self.excess[v] < 0)
        return begin if self.start not in members or self.start == begin else None

    def inner_arc(self, u: int) -> Step | None:
        arcs = ((v, k) for v, k in self.lists[u] if self.region[v] == self.region[u] and self.times[k] > 0)
        return next(arcs, None)

    def outer_arc(self, u: int) -> Step | None:
        arcs = ((v, k) for v, k in self.lists[u] if self.region[v] != self.region[u] and not self.walked[k])
        return next(arcs, None)

    def pending(self, u: int) -> bool:
        inner = self.region[u] not in self.done and self.inner_arc(u) is not None
        return inner or self.outer_arc(u) is not None

    def take(self, arc: Step) -> None:
        self.walked[arc[1]] += 1
        self.steps.append(arc)

    def circuit(self, v: int) -> int:
        self.done.add(self.region[v])
        stack, done = [self.steps.pop()], []
        while stack:
            arc = self.inner_arc(stack[-1][0])
            if arc is None:
                done.append(stack.pop())
            else:
                self.times[arc[1]] -= 1
                self.walked[arc[1]] += 1
                stack.append(arc)
        self.steps += done[::-1]
        return self.steps[-1][0]

    def go_on(self, v: int) -> int | None:
        """The nearest node with work left, walked to over arcs walked before; None: there is none."""
        if v in self.dead:
            return None
        if self.pending(v):
            return v
        came: dict[int, tuple[int, Step]] = {v: (-1, (-1, -1))}
        queue = [v]
        for u in queue:
            for arc in self.lists[u]:
                other = arc[0]
                if other in self.dead or other in came:
                    continue
                came[other] = (u, arc)
                queue.append(other)
                if self.pending(other):
                    route, node = [], other
                    while node != v:
                        node, step = came[node]
                        route.append(step)
                    for step in reversed(route):
                        self.take(step)
                    return other
        self.dead.update(queue)
        return None

    def segment(self, v: int) -> None:
        begin = len(self.steps)
        at = self.go_on(v)
        while at is not None:
            if self.region[at] not in self.done:
                at = self.circuit(at)
            else:
                arc = self.outer_arc(at)
                assert arc is not None
                self.take(arc)
                at = arc[0]
            at = self.go_on(at)
        while not self.closed and len(self.steps) > begin and self.walked[self.steps[-1][1]] > 1:
            self.walked[self.steps.pop()[1]] -= 1

    def landing(self, c: int) -> int | None:
        for r in range(len(self.regions[c]) - 1, -1, -1):
            members = self.regions[c][r]
            for v in members:
                if self.outer_arc(v) is not None:
                    return v
            if (c, r) not in self.done and self.inner_arc(members[0]) is not None:
                return members[0]
        return None

    def component(self, c: int) -> None:
        members = self.components[c]
        single = len(self.regions[c]) == 1
        start = self.start if self.start in members else None
        longest, far_end = [], -1
        if not self.trails[c]:
            for own in self.regions[c]:
                balanced = balance(self.lists, own)
                for k, times in balanced.times.items():
                    self.times[k] = times
                longest, far_end = balanced.longest, balanced.far_end
        if start is None and not single:
            start = self.landing(c)
        elif start is None and not self.trails[c] and not self.closed and longest:
            for k in longest:
                self.times[k] -= 1
            start = far_end
        elif start is None:
            start = self.trail_begin(members) if self.trails[c] else -1
            if start == -1:
                start = members[bounded(self.words.of_component(c)[0], len(members))]
        while start is not None:
            self.steps.append((start, JUMP if self.steps else FIRST))
            self.segment(start)
            start = self.landing(c)

    def run(self) -> list[Step]:
        bound = next((c for c, members in enumerate(self.components) if self.start in members), None)
        for c in take_turns(len(self.components), bound, self.words):
            self.component(c)
        return self.steps


def has_closed_walk(nodes: int, columns: list[Column]) -> bool:
    """Is every component strongly connected?"""
    lists = arcs_out(nodes, columns, Words((0, 0), 0, False))
    components = weak_components(nodes, columns, list(range(nodes)))
    return len(strong_regions(lists, list(range(nodes)))) == len(components)


def walk(nodes: int, columns: list[Column], *, closed: bool, start: int, words: Words) -> list[Step]:
    """Steps (node, column of the graph, FIRST or JUMP) of one graph; start -1 is free."""
    return Walk(nodes, columns, closed, start, words).run() if nodes else []
