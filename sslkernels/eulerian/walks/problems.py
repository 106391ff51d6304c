"""Inputs of the operators of this family, and the lines that tests and benchmarks run."""

from typing import Any

import torch
from torch import Tensor

Arguments = dict[str, Any]


def _columns(kind: str, nodes: int, edges: int, generator: torch.Generator) -> Tensor:
    """(edges, 2) local ids; "tree" and the kinds after it have as many edges as they need.

    funnel: half of the nodes lead to node 0, it to each of the others, and they twice back. Directed, each of
    the first has an arc to spare and each of the others lacks one, and all ways between them share a node.
    """
    if nodes == 0:
        return torch.zeros(0, 2, dtype=torch.int64)
    if kind == "tree":
        child = torch.arange(1, nodes)
        return torch.stack([(torch.rand(nodes - 1, generator=generator) * child).long(), child], 1)
    if kind == "cycle":
        node = torch.arange(nodes)
        return torch.stack([node, node.roll(-1)], 1)
    if kind == "funnel":
        first = torch.arange(1, (nodes + 1) // 2)
        other, hub = first + len(first), torch.zeros_like(first)
        ways = [(first, hub), (hub, other), (other, first), (other, first)]
        return torch.cat([torch.stack(way, 1) for way in ways])
    if kind == "complete":
        return torch.combinations(torch.arange(nodes), 2)
    return torch.randint(nodes, (edges, 2), generator=generator)


def _batch(
    kind: str, graphs: int, nodes: int, edges: int, lone: float, order: str, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """edge_index, graph_ptr and edge_ptr of `graphs` graphs of 0 to `nodes` nodes."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(0, nodes + 1, (graphs,), generator=generator)
    parts, first = [], 0
    for size in sizes.tolist():
        columns = _columns(kind, size, edges, generator)
        both = torch.rand(len(columns), generator=generator) >= lone
        doubled = torch.stack([columns, columns.flip(1)], 1)
        keep = torch.stack([torch.ones_like(both), both & (columns[:, 0] != columns[:, 1])], 1)
        columns = doubled[keep]
        if order == "shuffled":
            columns = columns[torch.randperm(len(columns), generator=generator)]
        elif order == "sorted":
            columns = columns[(columns[:, 0] * (nodes + 1) + columns[:, 1]).argsort(stable=True)]
        parts.append(columns + first)
        first += size
    edge_index = torch.cat(parts).T.contiguous() if parts else torch.zeros(2, 0, dtype=torch.int64)
    counts = torch.tensor([0, *map(len, parts)])
    return edge_index, torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)]), counts.cumsum(0)


def _far(shape: tuple[int, ...], distance: int, device: str) -> Tensor:
    """0 first and last, and far away in between: -distance, distance, -distance, ..."""
    steps = torch.arange(shape[-1], device=device)
    ends = (steps == 0) | (steps == shape[-1] - 1)
    return torch.where(ends, 0, (steps % 2 * 2 - 1) * distance).expand(shape)


def serialize(
    *,
    graphs: int,
    nodes: int,
    edges: int = 0,
    kind: str = "random",
    lone: float = 0.0,
    order: str = "paired",
    bits: int = 64,
    edge_ptr: bool = False,
    undirected: bool = True,
    closed: bool = False,
    shuffle: bool = True,
    start: bool = False,
    samples: bool = False,
    broken: str = "",
    seed: int = 0,
    step: int = 0,
    device: str = "cpu",
) -> Arguments:
    """Graphs of a kind; `lone`: share of lone columns; order of columns: paired, sorted or shuffled.

    broken: the argument whose values lie far outside, in both directions by turns.
    """
    edge_index, graph_ptr, columns_ptr = _batch(kind, graphs, nodes, edges, lone, order, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    sizes = graph_ptr.diff()
    starts = (torch.rand(graphs, generator=generator) * (sizes + 1)).long() - 1
    made = {
        "edge_index": edge_index.to(device, torch.int32 if bits == 32 else torch.int64),
        "graph_ptr": graph_ptr.to(device),
        "edge_ptr": columns_ptr.to(device) if edge_ptr else None,
        "undirected": undirected,
        "closed": closed,
        "shuffle": shuffle,
        "start": starts.to(device) if start else None,
        "seed": seed,
        "step": step,
        "sample_ids": torch.arange(graphs, device=device) * 7 - 3 if samples else None,
    }
    if broken:
        value = made[broken]
        assert isinstance(value, Tensor)
        # A start is looked up in a walker's memory: it must pass that of the walkers beside it, too.
        made[broken] = value + _far(value.shape, 1 << 28 if broken == "start" else 50000, device)
    return made


def _paths(graphs: int, nodes: int, edges: int, undirected: bool, seed: int) -> tuple[Tensor, ...]:
    from sslkernels.eulerian.walks.op import serialize as walk

    edge_index, graph_ptr, _ = _batch("random", graphs, nodes, edges, 0.2, "paired", seed)
    return (*walk(edge_index, graph_ptr, undirected=undirected, seed=seed), graph_ptr.diff())


def deserialize(
    *,
    graphs: int,
    nodes: int,
    edges: int,
    undirected: bool = True,
    num_nodes: bool = False,
    spread: int = 1,
    seed: int = 0,
    device: str = "cpu",
) -> Arguments:
    """Walks of random graphs; `spread` multiplies the names of the edges."""
    walked, names, ptr, sizes = _paths(graphs, nodes, edges, undirected, seed)
    names = torch.where(names >= 0, names * spread, names)
    return {
        "nodes": walked.to(device),
        "edges": names.to(device),
        "ptr": ptr.to(device),
        "num_nodes": (sizes + 2).to(device) if num_nodes else None,
        "undirected": undirected,
    }


def reindex(
    *,
    graphs: int,
    nodes: int,
    edges: int,
    scope: int,
    mode: str,
    samples: bool = False,
    seed: int = 0,
    step: int = 0,
    device: str = "cpu",
) -> Arguments:
    """The nodes of walks of random graphs."""
    walked, _, ptr, _ = _paths(graphs, nodes, edges, True, seed)
    return {
        "nodes": walked.to(device),
        "ptr": ptr.to(device),
        "scope": scope,
        "mode": mode,
        "seed": seed,
        "step": step,
        "sample_ids": torch.arange(graphs, device=device) * 11 - 5 if samples else None,
    }


LINES = (
    "serialize graphs=0 nodes=5",
    "serialize graphs=7 nodes=0",
    "serialize graphs=9 nodes=4 edges=0 seed=3",
    "serialize graphs=23 nodes=9 edges=8 lone=0.3 order=shuffled seed=1",
    "serialize graphs=17 nodes=9 edges=14 order=sorted closed=true seed=4",
    "serialize graphs=17 nodes=7 edges=9 start=true samples=true bits=32 seed=5",
    "serialize graphs=17 nodes=7 edges=9 start=true closed=true edge_ptr=true lone=0.5 order=sorted seed=6",
    "serialize graphs=11 nodes=9 edges=12 shuffle=false start=true edge_ptr=true seed=7",
    "serialize graphs=3 nodes=40 edges=80 seed=8 step=2",
    "serialize graphs=3 nodes=40 edges=80 closed=true start=true seed=9 step=9223372036854775807",
    "serialize graphs=4 nodes=60 kind=tree shuffle=false seed=9223372036854775806",
    "serialize graphs=4 nodes=13 kind=complete order=sorted seed=10",
    "serialize graphs=4 nodes=14 kind=cycle seed=11",
    "serialize graphs=2 nodes=300 edges=500 seed=12",
    "serialize graphs=520 nodes=3 edges=2 seed=13",
    # Lone columns at the very end of edge_index, paired and sorted: what lies behind is not read.
    "serialize graphs=1 nodes=5 edges=1 lone=1.0 seed=3",
    "serialize graphs=1 nodes=9 edges=20 lone=1.0 order=sorted seed=10",
    "serialize graphs=23 nodes=8 edges=9 undirected=false lone=1.0 seed=1",
    "serialize graphs=23 nodes=8 edges=14 undirected=false lone=1.0 start=true samples=true seed=2",
    "serialize graphs=13 nodes=9 edges=9 undirected=false closed=true start=true seed=3",
    "serialize graphs=4 nodes=14 kind=cycle undirected=false lone=1.0 closed=true seed=4",
    "serialize graphs=3 nodes=60 edges=110 undirected=false lone=1.0 bits=32 edge_ptr=true seed=5",
    "serialize graphs=11 nodes=9 edges=16 undirected=false lone=0.9 shuffle=false seed=6",
    "serialize graphs=1 nodes=900 kind=funnel undirected=false lone=1.0 closed=true seed=1",
    "deserialize graphs=0 nodes=3 edges=2",
    "deserialize graphs=19 nodes=7 edges=9 seed=1",
    "deserialize graphs=19 nodes=7 edges=9 undirected=false num_nodes=true seed=2",
    "deserialize graphs=5 nodes=9 edges=7 spread=100003 seed=3",
    "deserialize graphs=5 nodes=9 edges=0 num_nodes=true seed=4",
    "reindex graphs=0 nodes=3 edges=2 scope=4 mode=first_visit",
    "reindex graphs=13 nodes=9 edges=8 scope=9 mode=first_visit seed=1",
    "reindex graphs=13 nodes=9 edges=8 scope=9 mode=cyclic seed=2 step=5",
    "reindex graphs=13 nodes=9 edges=8 scope=9 mode=random samples=true seed=3",
    "reindex graphs=3 nodes=80 edges=120 scope=2147483647 mode=random seed=4",
    "reindex graphs=13 nodes=9 edges=8 scope=512 mode=cyclic samples=true seed=5",
)

# What a backend does not do.
LACKING = {"cuda": ("undirected=false",)}

# Values that a GPU's kernel does not look at: nothing is compared, but it must stay inside its memory.
UNCHECKED = (
    "serialize graphs=9 nodes=5 edges=6 broken=graph_ptr seed=1",
    "serialize graphs=9 nodes=5 edges=6 edge_ptr=true broken=graph_ptr seed=1",
    "serialize graphs=9 nodes=5 edges=6 edge_ptr=true broken=edge_ptr seed=2",
    "serialize graphs=9 nodes=5 edges=6 broken=edge_index seed=3",
    "serialize graphs=9 nodes=5 edges=6 edge_ptr=true broken=edge_index seed=3",
    "serialize graphs=9 nodes=5 edges=6 start=true broken=start seed=4",
)

# What benchmarks/gpu.py times: batches of the size of molecules.
TIMED = (
    "serialize graphs=512 nodes=33 kind=tree",
    "serialize graphs=4096 nodes=33 kind=tree",
    "serialize graphs=32768 nodes=33 kind=tree",
    "serialize graphs=4096 nodes=33 edges=18",
)
