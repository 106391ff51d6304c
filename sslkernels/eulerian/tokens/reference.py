"""The operators of the family in plain Python, step by step: the oracle of the tests."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple, NoReturn

import torch
from torch import Tensor

from sslkernels.eulerian.tokens.vocabulary import (
    BACKWARD,
    BOTH,
    FIRST_ID,
    FORWARD,
    JUMP,
    SEEN,
    START,
    Feature,
    Vocabulary,
)

LONE, PAIR, TURNED = range(3)  # TURNED: lone, its ends exchanged

# -- columns -----------------------------------------------------------------------------------------------


def pair_columns(
    edge_index: Tensor, graph_ptr: Tensor, edge_features: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Columns for the walk, their ptr, the columns they stand for and their kinds."""
    sources, targets = edge_index.tolist()
    features = [tuple(row) for row in edge_features.tolist()]
    walked: list[tuple[int, int, int, int]] = []
    ptr, column = [0], 0
    for end in graph_ptr.tolist()[1:]:
        begin = column
        while column < len(sources) and sources[column] < end:
            column += 1
        walked += _graph_columns(range(begin, column), sources, targets, features)
        ptr.append(len(walked))

    def as_tensor(values: list[int], dtype: torch.dtype = torch.int64) -> Tensor:
        return torch.tensor(values, dtype=dtype, device=edge_index.device)

    ends = torch.stack([as_tensor([row[0] for row in walked]), as_tensor([row[1] for row in walked])])
    kinds = as_tensor([row[3] for row in walked], torch.int32)
    return ends, as_tensor(ptr), as_tensor([row[2] for row in walked]), kinds


def _graph_columns(
    columns: range, sources: list[int], targets: list[int], features: list[tuple[int, ...]]
) -> Iterator[tuple[int, int, int, int]]:
    """(source, target, column, kind) of one graph."""
    partner = _partners(columns, sources, targets, [()] * len(sources))
    if all(features[column] == features[other] for column, other in partner.items()):
        for column in columns:
            yield sources[column], targets[column], column, PAIR if column in partner else LONE
        return
    partner = _partners(columns, sources, targets, features)
    for column in columns:
        if partner.get(column, column) < column:
            continue
        turned = sources[column] > targets[column]
        low, high = sorted((sources[column], targets[column]))
        yield low, high, column, PAIR if column in partner else TURNED if turned else LONE


def _partners(
    columns: range, sources: list[int], targets: list[int], features: list[tuple[int, ...]]
) -> dict[int, int]:
    """The k-th (u, v) with the k-th (v, u) of equal features."""
    waiting: dict[tuple[object, ...], list[int]] = {}
    partner = {}
    for column in columns:
        u, v = sources[column], targets[column]
        if u == v:
            continue
        found = waiting.get((v, u, features[column]))
        if found:
            other = found.pop(0)
            partner[column], partner[other] = other, column
        else:
            waiting.setdefault((u, v, features[column]), []).append(column)
    return partner


# -- encode ------------------------------------------------------------------------------------------------


def encode_tokens(
    ids: Tensor,
    nodes: Tensor,
    edges: Tensor,
    ptr: Tensor,
    walk_index: Tensor,
    walk_ptr: Tensor,
    column: Tensor,
    kind: Tensor,
    graph_ptr: Tensor,
    node_features: Tensor,
    edge_features: Tensor,
    node_sizes: Sequence[int],
    edge_sizes: Sequence[int],
    scope: int,
    stacked: bool,
    edge_direction: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, their ptr and their groups."""
    vocabulary = Vocabulary.build(node_sizes, edge_sizes, scope, stacked, edge_direction)
    node_rows = _attribute_rows(node_features, vocabulary.node)
    edge_rows = _attribute_rows(edge_features, vocabulary.edge)
    stands_for = column.tolist()
    passed = list(zip(*walk_index.tolist(), [edge_rows[at] for at in stands_for], kind.tolist(), strict=True))
    walk = list(zip(ids.tolist(), nodes.tolist(), edges.tolist(), strict=True))
    offsets, starts, firsts = ptr.tolist(), graph_ptr.tolist(), walk_ptr.tolist()
    tokens: list[list[int]] = []
    groups: list[int] = []
    lengths = [0]
    for graph in range(len(offsets) - 1):
        base, count = starts[graph], starts[graph + 1] - starts[graph]
        steps = _steps(vocabulary, walk[offsets[graph] : offsets[graph + 1]], base, passed)
        lengths.append(0)
        for step in steps:
            edge_group = -1 if step.edge < 0 else count + stands_for[step.edge] - stands_for[firsts[graph]]
            written = _stacked_step if stacked else _flat_step
            row, row_groups = written(vocabulary, step, node_rows[base + step.node], edge_group)
            tokens.append(row)
            groups += row_groups
            lengths[-1] += len(row_groups)
    flat = torch.tensor([token for row in tokens for token in row], dtype=torch.int32, device=ids.device)
    return (
        flat.reshape(-1, vocabulary.row) if stacked else flat,
        torch.tensor(list(accumulate(lengths)), dtype=torch.int64, device=ids.device),
        torch.tensor(groups, dtype=torch.int64, device=ids.device),
    )


def _attribute_rows(features: Tensor, layout: tuple[Feature, ...]) -> list[list[int]]:
    begins = torch.tensor([feature.begin for feature in layout], dtype=torch.int64, device=features.device)
    return (features + begins).tolist()


class _Step(NamedTuple):
    entry: int
    id_token: int
    node: int
    edge: int
    attributes: list[int]  # of a new edge
    first_visit: bool


def _steps(
    vocabulary: Vocabulary,
    walk: list[tuple[int, int, int]],
    base: int,
    passed: list[tuple[int, int, list[int], int]],
) -> Iterator[_Step]:
    seen_nodes: set[int] = set()
    seen_edges: set[int] = set()
    last = -1
    for id_, node, edge in walk:
        attributes: list[int] = []
        if edge < 0:
            entry = START if edge == -1 else JUMP
        elif edge in seen_edges:
            entry = SEEN
        else:
            source, _, attributes, kind = passed[edge]
            entry = _entry(vocabulary, kind, source == base + last, last == node)
            seen_edges.add(edge)
        yield _Step(entry, id_ + FIRST_ID, node, edge, attributes, node not in seen_nodes)
        seen_nodes.add(node)
        last = node


def _entry(vocabulary: Vocabulary, kind: int, along: bool, loop: bool) -> int:
    if loop:
        return vocabulary.loop
    if kind == PAIR or not vocabulary.edge_direction:
        return BOTH
    return FORWARD if along == (kind == LONE) else BACKWARD


def _stacked_step(
    vocabulary: Vocabulary, step: _Step, node: list[int], edge_group: int
) -> tuple[list[int], list[int]]:
    """Tokens of a row, and its group."""
    filled = step.attributes if step.entry >= BOTH else [step.entry] * len(vocabulary.edge)
    return [step.id_token, *node, step.entry, *filled], [step.node]


def _flat_step(
    vocabulary: Vocabulary, step: _Step, node: list[int], edge_group: int
) -> tuple[list[int], list[int]]:
    """Tokens of a step, and the group of each."""
    written = step.entry in (JUMP, SEEN) or (step.entry >= BOTH and vocabulary.edge_direction)
    before = [step.entry] * written + step.attributes
    after = [step.id_token, *(node if step.first_visit else [])]
    return before + after, [edge_group] * len(before) + [step.node] * len(after)


# -- decode ------------------------------------------------------------------------------------------------


def decode_tokens(
    tokens: Tensor,
    ptr: Tensor,
    node_sizes: Sequence[int],
    edge_sizes: Sequence[int],
    scope: int,
    stacked: bool,
    edge_direction: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """edge_index, graph_ptr, node features and edge features; ValueError names the step that is malformed."""
    vocabulary = Vocabulary.build(node_sizes, edge_sizes, scope, stacked, edge_direction)
    offsets, rows = ptr.tolist(), tokens.tolist()
    graph_ptr = [0]
    nodes: list[list[int]] = []
    columns: list[tuple[int, int, list[int]]] = []
    for graph, (begin, end) in enumerate(pairwise(offsets)):
        decoded = _Graph(vocabulary, graph)
        (_read_rows if stacked else _read_flat)(decoded, rows[begin:end])
        base = len(nodes)
        nodes += decoded.nodes
        columns += [(base + u, base + v, row) for u, v, row in decoded.columns]
        graph_ptr.append(len(nodes))

    def as_tensor(values: list[list[int]] | list[int], *shape: int) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=tokens.device).reshape(shape)

    return (
        as_tensor([c[0] for c in columns] + [c[1] for c in columns], 2, len(columns)),
        as_tensor(graph_ptr, len(graph_ptr)),
        as_tensor(nodes, len(nodes), len(node_sizes)),
        as_tensor([row for _, _, row in columns], len(columns), len(edge_sizes)),
    )


class _Graph:
    """One graph as it grows from its steps."""

    def __init__(self, vocabulary: Vocabulary, graph: int) -> None:
        self.vocabulary, self.graph = vocabulary, graph
        self.step, self.position, self.current, self.component = 0, 0, 0, 0
        self.number: dict[int, int] = {}  # of a node id, in the order of first visit
        self.next_id = 0
        self.nodes: list[list[int]] = []
        self.columns: list[tuple[int, int, list[int]]] = []
        self.open: Counter[frozenset[int]] = Counter()  # edges that may still be walked a second time

    def reject(self, what: str) -> NoReturn:
        token = "" if self.vocabulary.stacked else f" (token {self.position})"
        raise ValueError(f"tokens: step {self.step}{token} of graph {self.graph}: {what}")

    def is_next(self, id_: int) -> bool:
        return len(self.nodes) < self.vocabulary.scope and (not self.nodes or id_ == self.next_id)

    def add(self, entry: int, id_: int, node: list[int] | None, edge: list[int] | None) -> None:
        """One step: `node` and `edge` are attribute tokens, None where the flat layout has none."""
        if not JUMP <= entry <= BACKWARD:
            self.reject(f"token {entry} is no entry")
        if (entry == START) != (self.step == 0):
            self.reject("the first step of a graph, and no other, is a start")
        last, known = self.current, len(self.nodes)
        self.current = self._visit(id_, node)
        if entry >= BOTH:
            self._add_edge(last, entry, edge or [])
        else:
            self._check_filled(entry, edge or [])
            if entry == JUMP:
                if len(self.nodes) == known:
                    self.reject("a jump leads to a node visited before")
                self.component = self.current
            if entry == SEEN:
                self._see_again(last)
        self.step += 1

    def _visit(self, id_: int, attributes: list[int] | None) -> int:
        if not 0 <= id_ < self.vocabulary.scope:
            self.reject("no node id where one must stand")
        if self.is_next(id_):
            self.number[id_] = len(self.nodes)
            self.next_id = (id_ + 1) % self.vocabulary.scope
            self.nodes.append(self._read("node", attributes or [], self.vocabulary.node))
            return self.number[id_]
        if id_ not in self.number:
            self.reject(f"node id {id_} is neither one visited before nor the next one")
        node = self.number[id_]
        first = [
            value + feature.begin
            for value, feature in zip(self.nodes[node], self.vocabulary.node, strict=True)
        ]
        if attributes is not None and attributes != first:
            self.reject(f"the attributes of node id {id_} differ from those at its first visit")
        return node

    def _read(self, what: str, tokens: list[int], layout: tuple[Feature, ...]) -> list[int]:
        for at, (token, (begin, size)) in enumerate(zip(tokens, layout, strict=True)):
            if not begin <= token < begin + size:
                self.reject(f"{what} attribute {at} is token {token}, outside [{begin}, {begin + size})")
        return [token - feature.begin for token, feature in zip(tokens, layout, strict=True)]

    def _check_filled(self, entry: int, edge: list[int]) -> None:
        for at, token in enumerate(edge):
            if token != entry:
                self.reject(f"edge attribute {at} is token {token}, which must be {entry}")

    def _require_component(self) -> None:
        if self.current < self.component:
            self.reject("an edge leads to a component that was left by a jump")

    def _see_again(self, last: int) -> None:
        self._require_component()
        ends = frozenset((last, self.current))
        if not self.open[ends]:
            self.reject("no edge between these nodes is left to be walked a second time")
        self.open[ends] -= 1

    def _add_edge(self, last: int, entry: int, edge: list[int]) -> None:
        self._require_component()
        here, loop = self.current, last == self.current
        if entry != self.vocabulary.loop if loop else not self.vocabulary.edge_direction and entry != BOTH:
            self.reject(f"token {entry} is not the entry of such an edge")
        row = self._read("edge", edge, self.vocabulary.edge)
        self.columns.append((here, last, row) if entry == BACKWARD else (last, here, row))
        if not loop:
            self.open[frozenset((last, here))] += 1
            if entry == BOTH:
                self.columns.append((here, last, row))


def _read_rows(graph: _Graph, rows: list[list[int]]) -> None:
    width = len(graph.vocabulary.node)
    for row in rows:
        graph.add(row[1 + width], row[0] - FIRST_ID, row[1 : 1 + width], row[2 + width :])


def _read_flat(graph: _Graph, tokens: list[int]) -> None:
    at = 0

    def take(count: int) -> list[int]:
        nonlocal at
        graph.position = at
        if len(tokens) - at < count:
            graph.reject("the sequence ends within the step")
        at += count
        return tokens[at - count : at]

    vocabulary = graph.vocabulary
    while at < len(tokens):
        entry, edge = START, None
        if at > 0:
            written = vocabulary.edge_direction or tokens[at] in (JUMP, SEEN)
            entry = take(1)[0] if written else BOTH
            edge = take(len(vocabulary.edge)) if entry >= BOTH else None
        id_ = take(1)[0] - FIRST_ID
        graph.add(entry, id_, take(len(vocabulary.node)) if graph.is_next(id_) else None, edge)


# -- pack --------------------------------------------------------------------------------------------------


def pack_rows(ptr: Tensor, length: int, max_tokens: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Segment offsets, the graph of each segment, and for every place its token and its position."""
    starts = ptr.tolist()
    lengths = [end - begin for begin, end in pairwise(starts)]
    rows = _best_fit(lengths, max_tokens)
    segments, graphs = [0], []
    source: list[int] = []
    positions: list[int] = []
    for row in rows:
        for graph in row:
            source += range(starts[graph], starts[graph + 1])
            positions += range(lengths[graph])
            graphs.append(graph)
            segments.append(len(source))
        left = -len(source) % max_tokens if any(lengths[graph] for graph in row) else max_tokens
        if left:
            source += [length] * left
            positions += range(left)
            graphs.append(-1)
            segments.append(len(source))

    def as_tensor(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=ptr.device)

    shape = (len(rows), max_tokens)
    return (
        as_tensor(segments),
        as_tensor(graphs),
        as_tensor(source).view(shape),
        as_tensor(positions).view(shape),
    )


def _best_fit(lengths: list[int], capacity: int) -> list[list[int]]:
    """The graphs of each row: longest first (ties in order), each into the fullest row that takes it.

    Of rows equally full the one filled last is taken.
    """
    rows: list[list[int]] = []
    by_space: dict[int, list[int]] = {}
    for graph in sorted(range(len(lengths)), key=lambda graph: -lengths[graph]):
        fitting = [space for space, there in by_space.items() if there and space >= lengths[graph]]
        if fitting:
            space = min(fitting)
            row = by_space[space].pop()
        else:
            space, row = capacity, len(rows)
            rows.append([])
        rows[row].append(graph)
        by_space.setdefault(space - lengths[graph], []).append(row)
    return rows
