"""The walk of a directed graph in plain Python: the oracle of csrc/eulerian/walks/directed.h.

An incidence list holds (target, column) of the arcs out of a node. A region is a strong component, or a whole
component that has an Euler trail.
"""

from dataclasses import dataclass, field

from sslkernels.eulerian.walks.undirected import FIRST, JUMP, Column, Step
from sslkernels.eulerian.walks.words import Words, bounded, enter, scan_order, take_turns

LOOKS = 64
LANDING = -3  # in place of a column, at the node where a trail begins


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
class Flow:
    """How often nodes and arcs of a graph are passed: `excess` is arcs in minus arcs out; `entries` enter
    from another region, `ends` more end a trail here; `begins` lists where trails begin."""

    lists: list[list[Step]]
    region: list[tuple[int, int]]
    excess: list[int]
    times: list[int]
    entries: list[int]
    ends: list[int]
    begins: list[int] = field(default_factory=list)

    def end_at(self, v: int, count: int) -> None:
        self.excess[v] -= count
        self.entries[v] -= count
        self.ends[v] += count

    def end_spare(self, v: int) -> int:
        count = min(self.entries[v], max(self.excess[v], 0))
        self.end_at(v, count)
        return count

    def end_surplus(self, members: list[int]) -> None:
        """Where more arcs lead into the region than out of it, so many trails end in it."""
        surplus = sum(self.excess[v] for v in members)
        for anywhere in (False, True):
            for v in members:
                count = max(min(surplus, self.entries[v]), 0)
                if not anywhere:
                    count = min(count, max(self.excess[v], 0))
                self.end_at(v, count)
                surplus -= count

    def begin_trails(self, members: list[int]) -> None:
        lack = -sum(self.excess[v] for v in members)
        for v in members:
            count = max(min(lack, -self.excess[v]), 0)
            self.begins += [v] * count
            self.excess[v] += count
            lack -= count


class Balance:
    """Makes a region's arcs in and out equal at each node; `longest` is the longest repeated route."""

    def __init__(self, flow: Flow, members: list[int]) -> None:
        self.flow, self.members = flow, members
        self.arcs = sum(len(flow.lists[u]) for u in members)
        self.looked = self.repeated = 0
        self.longest: list[int] = []
        self.far_end = -1
        flow.end_surplus(members)
        origins = [v for v in members if flow.excess[v] > 0]
        self.surplus = sum(flow.excess[v] for v in origins)
        while self.surplus > 0 and self.looked <= LOOKS * self.arcs:
            self.spread(origins)
            origins = [v for v in origins if flow.excess[v] > 0]
        for v in origins:
            self.surplus -= flow.end_spare(v)
        flow.begin_trails(members)
        if self.surplus > 0:
            self.longest = []
            self.lead_over_root()

    def inside(self, u: int) -> list[Step]:
        return [arc for arc in self.flow.lists[u] if self.flow.region[arc[0]] == self.flow.region[u]]

    def spread(self, origins: list[int]) -> None:
        """From all origins at once to the nodes that lack arcs in; past LOOKS looks an arc over the root."""
        flow, queue = self.flow, origins.copy()
        came = {v: (-1, -1, v) for v in origins}  # before, over which arc, from which origin
        for u in queue:
            origin = came[u][2]
            for v, k in flow.lists[u]:
                if flow.excess[origin] == 0:
                    break
                self.looked += 1
                if flow.region[v] != flow.region[u]:
                    continue
                if flow.excess[v] < 0:
                    self.lead(origin, u, (v, k), came)
                if v not in came:
                    came[v] = (u, k, origin)
                    queue.append(v)

    def lead(self, origin: int, last: int, arc: Step, came: dict[int, tuple[int, int, int]]) -> None:
        """Trails that could as well end at the origin do so once the region repeats more than it has arcs."""
        flow, node, route = self.flow, arc[0], [arc[1]]
        while last != origin:
            last, k, _ = came[last]
            route.append(k)
        units = min(flow.excess[origin], -flow.excess[node])
        if flow.entries[origin] and self.repeated + len(route) * units > self.arcs:
            self.surplus -= flow.end_spare(origin)
            units = min(units, flow.excess[origin])
        if units == 0:
            return
        self.repeated += len(route) * units
        self.surplus -= units
        flow.excess[origin] -= units
        flow.excess[node] += units
        for k in route:
            flow.times[k] += units
        if len(route) > len(self.longest):
            self.longest, self.far_end = route, node

    def lead_over_root(self) -> None:
        flow = self.flow
        into: dict[int, list[Step]] = {v: [] for v in self.members}
        for u in self.members:
            for v, k in self.inside(u):
                into[v].append((u, k))
        out = {u: self.inside(u) for u in self.members}
        for sign, lists in ((1, into), (-1, out)):
            came, queue = {self.members[0]: (-1, -1)}, [self.members[0]]
            for u in queue:
                for v, k in lists[u]:
                    if v not in came:
                        came[v] = (u, k)
                        queue.append(v)
            for v in queue[:0:-1]:
                if sign * flow.excess[v] > 0:
                    other, k = came[v]
                    flow.times[k] += abs(flow.excess[v])
                    flow.excess[other] += flow.excess[v]
                    flow.excess[v] = 0


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
        self.leads: set[tuple[int, int]] = set()  # regions that arcs lead out of
        entries = [0] * nodes
        for u, v in columns:
            if self.region[u] != self.region[v]:
                entries[v] += 1
                self.leads.add(self.region[u])
        self.times = [1] * len(columns)
        self.flow = Flow(self.lists, self.region, self.excess.copy(), self.times, entries, [0] * nodes)
        self.walked = [0] * len(columns)
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

    def next_arc(self, u: int) -> Step | None:
        return next((arc for arc in self.lists[u] if self.times[arc[1]] > 0), None)

    def trail_to_sink(self, start: int) -> list[Step]:
        """The shortest way to a region that no arc leads out of; its arcs between regions are taken."""
        came: dict[int, tuple[int, Step]] = {start: (-1, (start, LANDING))}
        queue, end = [start], start
        for u in queue:
            for arc in self.lists[u]:
                if self.region[end] in self.leads and arc[0] not in came:
                    end = arc[0]
                    came[end] = (u, arc)
                    queue.append(end)
        trail: list[Step] = []
        while end >= 0:
            before, arc = came[end]
            trail.append(arc)
            if before >= 0 and self.region[before] != self.region[end]:
                self.times[arc[1]] = 0
                self.flow.entries[end] -= 1
                self.flow.excess[end] -= 1
                self.flow.excess[before] += 1
            end = before
        return trail[::-1]

    def find_trail(self, v: int) -> list[Step]:
        """From v to an arc that ends a trail."""
        trail = [(v, LANDING)]
        while (arc := self.next_arc(v)) is not None:
            self.times[arc[1]] -= 1
            trail.append(arc)
            enters = self.region[v] != self.region[arc[0]]
            v = arc[0]
            if enters and self.flow.ends[v]:
                self.flow.ends[v] -= 1
                break
        return trail

    def write_trail(self, trail: list[Step]) -> None:
        """A trail and the circuits that hang on it, without the repeated arcs at its end."""
        for _, k in trail[1:]:
            self.walked[k] += 1
        stack, done = [(trail[0][0], JUMP if self.steps else FIRST), *trail[1:]], []
        while stack:
            arc = self.next_arc(stack[-1][0])
            if arc is None:
                done.append(stack.pop())
            else:
                self.times[arc[1]] -= 1
                self.walked[arc[1]] += 1
                stack.append(arc)
        begin = len(self.steps) + 1
        self.steps += done[::-1]
        while not self.closed and len(self.steps) > begin and self.walked[self.steps[-1][1]] > 1:
            self.walked[self.steps.pop()[1]] -= 1

    def only_start(self, c: int, balanced: Balance | None) -> int:
        """The free beginning of a component that is a single region."""
        if balanced is not None and not self.closed and balanced.longest:
            for k in balanced.longest:
                self.times[k] -= 1
            return balanced.far_end
        members = self.components[c]
        begin = None if balanced is not None else self.trail_begin(members)
        if begin is not None and begin >= 0:
            return begin
        return members[bounded(self.words.of_component(c)[0], len(members))]

    def component(self, c: int) -> None:
        """Its trails by the regions they end in, those first that lead to no other; a given start first."""
        single = len(self.regions[c]) == 1
        start = self.start if self.start in self.components[c] else None
        given = [] if single or start is None else [self.trail_to_sink(start)]
        balanced = None
        self.flow.begins = []
        if not self.trails[c]:
            for own in self.regions[c]:
                balanced = Balance(self.flow, own)
        if single:
            given = [[(self.only_start(c, balanced) if start is None else start, LANDING)]]
        found = [self.find_trail(v) for v in self.flow.begins]
        for trail in given + sorted(found, key=lambda steps: self.region[steps[-1][0]]):
            self.write_trail(trail)

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
