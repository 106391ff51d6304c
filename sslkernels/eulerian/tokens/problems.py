"""Inputs of the family's operators. Walks are drawn first and their graphs follow from them."""

import random
from typing import Any

import torch
from torch import Tensor

from sslkernels.eulerian.tokens import reference

SHAPES = (
    "graphs=0 steps=1",
    "graphs=1 steps=1",
    "graphs=3 steps=0",
    "graphs=7 steps=13",
    "graphs=77 steps=5 node_columns=0 edge_columns=0",
    "graphs=2 steps=301 node_columns=1 edge_columns=2",
    "graphs=130 steps=21 node_columns=9 edge_columns=3",
)
LAYOUTS = tuple(f"stacked={s} direction={d}" for s in ("true", "false") for d in ("true", "false"))
LINES = (
    *(f"pair_columns {shape} {order}" for shape in SHAPES for order in ("", "sort=true", "unlike=0.5")),
    *(
        f"{name} {shape} {layout}"
        for name in ("encode_tokens", "decode_tokens")
        for shape in SHAPES
        for layout in LAYOUTS
    ),
    "decode_tokens graphs=7 steps=13 wide=true",
    *(
        f"pack_rows graphs={graphs} longest={n} max_tokens={m}"
        for graphs, n, m in ((0, 1, 3), (1, 0, 5), (9, 5, 5), (500, 40, 97))
    ),
)


class _Walk:
    """A walk of one graph and the columns that it passes, ids local."""

    def __init__(self, rng: random.Random, steps: int) -> None:
        self.nodes: list[int] = []
        self.edges: list[int] = []  # index into `ends`; -1 first, -2 jump
        self.ends: list[tuple[int, int, bool]] = []  # source, target, whether the column is one of a pair
        again: list[int] = []  # edges that may still be passed a second time
        component = known = 0
        for step in range(steps):
            here = self.nodes[-1] if step else 0
            choices = [edge for edge in again if here in self.ends[edge][:2]]
            if step == 0 or rng.random() < 0.1:
                component, known = known, known + 1
                self._enter(known - 1, -2 if step else -1)
            elif choices and rng.random() < 0.4:
                edge = rng.choice(choices)
                again.remove(edge)
                source, target, _ = self.ends[edge]
                self._enter(source + target - here, edge)
            else:
                there = known if rng.random() < 0.6 else rng.randrange(component, known)
                known = max(known, there + 1)
                ends = (here, there) if rng.random() < 0.7 else (there, here)
                self.ends.append((*ends, here != there and rng.random() < 0.7))
                if here != there:
                    again.append(len(self.ends) - 1)
                self._enter(there, len(self.ends) - 1)
        self.count = known
        names = rng.sample(range(known), known)
        self.nodes = [names[node] for node in self.nodes]
        self.ends = [(names[source], names[target], pair) for source, target, pair in self.ends]

    def _enter(self, node: int, edge: int) -> None:
        self.nodes.append(node)
        self.edges.append(edge)


def _tensor(values: Any, *shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
    return torch.tensor(values, dtype=dtype).reshape(shape or (-1,))


def _features(rng: random.Random, rows: int, columns: int) -> list[list[int]]:
    return [[rng.randrange(2 + at) for at in range(columns)] for _ in range(rows)]


def _graphs(graphs: int, steps: int, node_columns: int, edge_columns: int, seed: int) -> dict[str, Any]:
    """A batch, its walks, and the columns that the walks pass (of a pair the first one)."""
    rng = random.Random(seed)
    walks = [_Walk(rng, rng.randint(min(steps, 1), steps) if graph else steps) for graph in range(graphs)]
    columns: list[tuple[int, int]] = []
    features, passed = [], []
    graph_ptr, walk_ptr, ptr = [0], [0], [0]
    nodes: list[int] = []
    edges: list[int] = []
    ids: list[int] = []
    for walk in walks:
        base, first = graph_ptr[-1], walk_ptr[-1]
        for source, target, pair in walk.ends:
            row = _features(rng, 1, edge_columns)[0]
            passed.append((base + source, base + target, len(columns), int(pair)))
            columns.append((base + source, base + target))
            features.append(row)
            if pair:
                columns.append((base + target, base + source))
                features.append(row)
        number = {node: at for at, node in enumerate(dict.fromkeys(walk.nodes))}
        offset = rng.randrange(512)
        ids += [(number[node] + offset) % 512 for node in walk.nodes]
        nodes += walk.nodes
        edges += [edge if edge < 0 else first + edge for edge in walk.edges]
        graph_ptr.append(base + walk.count)
        walk_ptr.append(len(passed))
        ptr.append(len(nodes))
    return {
        "edge_index": _tensor([[c[0] for c in columns], [c[1] for c in columns]], 2, len(columns)),
        "graph_ptr": _tensor(graph_ptr),
        "node_features": _tensor(_features(rng, graph_ptr[-1], node_columns), graph_ptr[-1], node_columns),
        "edge_features": _tensor(features, len(columns), edge_columns),
        "walk_index": _tensor([[row[0] for row in passed], [row[1] for row in passed]], 2, len(passed)),
        "walk_ptr": _tensor(walk_ptr),
        "column": _tensor([row[2] for row in passed]),
        "kind": _tensor([row[3] for row in passed], dtype=torch.int32),
        "ids": _tensor(ids, dtype=torch.int32),
        "nodes": _tensor(nodes, dtype=torch.int32),
        "edges": _tensor(edges, dtype=torch.int32),
        "ptr": _tensor(ptr),
    }


def _on(device: str, made: dict[str, Any]) -> dict[str, Any]:
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in made.items()}


def pair_columns(
    *,
    graphs: int,
    steps: int,
    node_columns: int = 2,
    edge_columns: int = 1,
    sort: bool = False,
    unlike: float = 0.0,
    seed: int = 0,
    device: str = "cpu",
) -> dict[str, Any]:
    """sort: columns as PyG's coalesce leaves them; unlike: share of features drawn anew."""
    made = _graphs(graphs, steps, node_columns, edge_columns, seed)
    edge_index, features = made["edge_index"], made["edge_features"]
    if sort:
        order = sorted(range(edge_index.shape[1]), key=lambda column: edge_index[:, column].tolist())
        edge_index, features = edge_index[:, order], features[order]
    if unlike:
        rng = random.Random(seed + 1)
        features = features.clone()
        for row in range(features.shape[0]):
            if rng.random() < unlike:
                features[row] = rng.randrange(2)
    return _on(device, {"edge_index": edge_index, "graph_ptr": made["graph_ptr"], "edge_features": features})


def encode_tokens(
    *,
    graphs: int,
    steps: int,
    node_columns: int = 2,
    edge_columns: int = 1,
    stacked: bool = True,
    direction: bool = True,
    seed: int = 0,
    device: str = "cpu",
) -> dict[str, Any]:
    made = _graphs(graphs, steps, node_columns, edge_columns, seed)
    del made["edge_index"]
    sizes = {
        "node_sizes": [2 + at for at in range(node_columns)],
        "edge_sizes": [2 + at for at in range(edge_columns)],
    }
    return _on(device, {**made, **sizes, "scope": 512, "stacked": stacked, "edge_direction": direction})


def decode_tokens(
    *,
    graphs: int,
    steps: int,
    node_columns: int = 2,
    edge_columns: int = 1,
    stacked: bool = True,
    direction: bool = True,
    wide: bool = False,
    seed: int = 0,
    device: str = "cpu",
) -> dict[str, Any]:
    """The tokens of encode_tokens with the same keywords; wide: as int64."""
    encoded = encode_tokens(
        graphs=graphs,
        steps=steps,
        node_columns=node_columns,
        edge_columns=edge_columns,
        stacked=stacked,
        direction=direction,
        seed=seed,
    )
    tokens, ptr, _ = reference.encode_tokens(**encoded)
    kept = ("node_sizes", "edge_sizes", "scope", "stacked", "edge_direction")
    made = {"tokens": tokens.long() if wide else tokens, "ptr": ptr}
    return _on(device, {**made, **{name: encoded[name] for name in kept}})


def pack_rows(
    *, graphs: int, longest: int, max_tokens: int, seed: int = 0, device: str = "cpu"
) -> dict[str, Any]:
    rng = random.Random(seed)
    ptr = [0]
    for _ in range(graphs):
        ptr.append(ptr[-1] + rng.randint(0, longest))
    return _on(device, {"ptr": _tensor(ptr), "length": ptr[-1], "max_tokens": max_tokens})
