"""Walks of molecules against networkx, rustworkx and AutoGraph, and of ever larger graphs.

The molecules are the 4,991 of RDKit's NCI sample that it reads. AutoGraph (BorgwardtLab, NeurIPS 2025) runs
where SSLKERNELS_AUTOGRAPH names a folder with its compiled `sent_utils`; its encoder gets CSR matrices, made
before.
"""

import functools
import importlib
import os
import sys
from collections.abc import Callable
from itertools import combinations, pairwise
from types import SimpleNamespace
from typing import Any

import networkx as nx
import numpy as np
import pytest
import rustworkx as rx
import torch
from torch import Tensor

from benchmarks.conftest import Race, turns
from sslkernels.eulerian import deserialize, serialize

Molecule = tuple[int, list[tuple[int, int]]]
NETWORKX_PART, RUSTWORKX_PART = 100, 500  # molecules that a slow peer is timed on


@functools.cache
def molecules() -> list[Molecule]:
    """Atoms and bonds."""
    from rdkit import Chem, RDConfig, RDLogger

    RDLogger.DisableLog("rdApp.*")
    found = []
    with open(os.path.join(RDConfig.RDDataDir, "NCI", "first_5K.smi")) as lines:
        for line in lines:
            molecule = Chem.MolFromSmiles(line.split()[0])
            if molecule is not None:
                bonds = [(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in molecule.GetBonds()]
                found.append((molecule.GetNumAtoms(), bonds))
    return found


def batch(graphs: list[Molecule], order: str = "paired") -> tuple[Tensor, Tensor]:
    """edge_index and graph_ptr; "sorted" as PyG coalesces, the two columns of a bond far apart."""
    ptr, parts = [0], []
    for nodes, bonds in graphs:
        columns = [column for u, v in bonds for column in ((u, v), (v, u))]
        parts += [(u + ptr[-1], v + ptr[-1]) for u, v in (sorted(columns) if order == "sorted" else columns)]
        ptr.append(ptr[-1] + nodes)
    return torch.tensor(parts).T.contiguous(), torch.tensor(ptr)


def some(part: int) -> tuple[list[Molecule], float]:
    """Every k-th molecule, about `part` of them, and by what their time is multiplied."""
    chosen = molecules()[:: len(molecules()) // part]
    return chosen, len(molecules()) / len(chosen)


# -- peers ---------------------------------------------------------------------------------------------------


def networkx_walks(graphs: list[nx.Graph]) -> None:
    """GraphGPT's method: eulerize each component and walk it."""
    for graph in graphs:
        for members in nx.connected_components(graph):
            part = graph.subgraph(members)
            if len(members) > 1:
                list(nx.eulerian_path(part if nx.has_eulerian_path(part) else nx.eulerize(part)))


def networkx_graph(molecule: Molecule) -> nx.Graph:
    graph = nx.Graph()
    graph.add_nodes_from(range(molecule[0]))
    graph.add_edges_from(molecule[1])
    return graph


def rustworkx_graph(molecule: Molecule) -> rx.PyGraph:
    graph = rx.PyGraph()
    graph.add_nodes_from(range(molecule[0]))
    graph.add_edges_from([(u, v, 1) for u, v in molecule[1]])
    return graph


def _repeated(graph: rx.PyGraph) -> list[tuple[int, int]]:
    """The edges of a minimum T-join, by rustworkx's distances and matching."""
    odd = [v for v in graph.node_indices() if graph.degree(v) % 2]
    paths = {v: rx.dijkstra_shortest_paths(graph, v, weight_fn=float) for v in odd}
    pairs = rx.PyGraph()
    pairs.add_nodes_from(odd)
    for i, j in combinations(range(len(odd)), 2):
        if odd[j] in paths[odd[i]]:
            pairs.add_edge(i, j, -(len(paths[odd[i]][odd[j]]) - 1))
    repeated = []
    for i, j in rx.max_weight_matching(pairs, max_cardinality=True, weight_fn=int):
        path = list(paths[odd[i]][odd[j]])
        repeated += list(pairwise(path))
    return repeated


def rustworkx_walks(graphs: list[rx.PyGraph]) -> None:
    """Matching in Rust, Hierholzer in Python."""
    for graph in graphs:
        lists: list[list[tuple[int, int]]] = [[] for _ in graph.node_indices()]
        for k, (u, v) in enumerate([*graph.edge_list(), *_repeated(graph)]):
            lists[u].append((v, k))
            lists[v].append((u, k))
        used, walk = set(), []
        for root in graph.node_indices():
            stack = [root] if lists[root] else []
            while stack:
                neighbours = lists[stack[-1]]
                while neighbours and neighbours[-1][1] in used:
                    neighbours.pop()
                if neighbours:
                    node, k = neighbours.pop()
                    used.add(k)
                    stack.append(node)
                else:
                    walk.append(stack.pop())


@functools.cache
def autograph() -> Any:
    """AutoGraph's compiled module, or None."""
    folder = os.environ.get("SSLKERNELS_AUTOGRAPH")
    if folder is None:
        return None
    sys.path.insert(0, folder)
    return importlib.import_module("sent_utils")


def csr(molecule: Molecule) -> SimpleNamespace:
    nodes, bonds = molecule
    columns = np.array(sorted([*bonds, *((v, u) for u, v in bonds)]), dtype=np.int64).reshape(-1, 2)
    counts = np.bincount(columns[:, 0], minlength=nodes)
    return SimpleNamespace(
        indices=columns[:, 1].astype(np.int32),
        indptr=np.concatenate([[0], counts.cumsum()]).astype(np.int32),
        shape=(nodes, nodes),
    )


def autograph_calls() -> tuple[Callable[[], object], Callable[[], object]]:
    """Encoding and decoding all molecules."""
    module, matrices = autograph(), [csr(molecule) for molecule in molecules()]
    rng = np.random.RandomState(0)
    sequences = [module.sample_sent(matrix, rng=rng)[0] for matrix in matrices]

    def encode() -> None:
        for matrix in matrices:
            module.sample_sent(matrix, rng=rng)

    def decode() -> None:
        for sequence in sequences:
            module.reconstruct_graph_from_sent(sequence, -1, -2, -3)

    return encode, decode


@pytest.fixture
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# -- races ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("one_thread")
def test_serialize_molecules(race: Race) -> None:
    edge_index, graph_ptr = batch(molecules())
    few, networkx_scale = some(NETWORKX_PART)
    more, rustworkx_scale = some(RUSTWORKX_PART)
    networkx_graphs, rustworkx_graphs = list(map(networkx_graph, few)), list(map(rustworkx_graph, more))
    peers: dict[str, Callable[[], object]] = {
        "networkx eulerize": lambda: networkx_walks(networkx_graphs),
        "rustworkx matching": lambda: rustworkx_walks(rustworkx_graphs),
    }
    floor = {"networkx eulerize": 300.0, "rustworkx matching": 30.0}
    if autograph() is not None:
        peers["AutoGraph encoder"] = autograph_calls()[0]
        floor["AutoGraph encoder"] = 2.0
    race(
        f"serialize molecules={len(molecules())} threads=1",
        lambda: serialize(edge_index, graph_ptr, seed=1),
        peers,
        scale={"networkx eulerize": networkx_scale, "rustworkx matching": rustworkx_scale},
        floor=floor,
        seconds=10.0,
    )


@pytest.mark.usefixtures("one_thread")
def test_deserialize_molecules(race: Race) -> None:
    edge_index, graph_ptr = batch(molecules())
    paths = serialize(edge_index, graph_ptr, seed=1)
    peers: dict[str, Callable[[], object]] = {"serialize": lambda: serialize(edge_index, graph_ptr, seed=1)}
    floor = {"serialize": 1.0}
    if autograph() is not None:
        peers["AutoGraph decoder"] = autograph_calls()[1]
        floor["AutoGraph decoder"] = 1.0
    race(
        f"deserialize molecules={len(molecules())} threads=1", lambda: deserialize(paths), peers, floor=floor
    )


@pytest.mark.usefixtures("one_thread")
def test_serialize_sorted_columns(race: Race) -> None:
    """Columns as PyG sorts them take at most 1.3 times as long as pairs side by side."""
    paired, graph_ptr = batch(molecules())
    sorted_columns, _ = batch(molecules(), "sorted")
    race(
        f"serialize molecules={len(molecules())} threads=1 columns=sorted",
        lambda: serialize(sorted_columns, graph_ptr, seed=1),
        {"pairs side by side": lambda: serialize(paired, graph_ptr, seed=1)},
        floor={"pairs side by side": 1 / 1.3},
    )


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core")
def test_serialize_two_threads(race: Race) -> None:
    edge_index, graph_ptr = batch(molecules())

    def with_threads(count: int) -> object:
        torch.set_num_threads(count)
        return serialize(edge_index, graph_ptr, seed=1)

    threads = torch.get_num_threads()
    race(
        f"serialize molecules={len(molecules())} threads=2",
        lambda: with_threads(2),
        {"one thread": lambda: with_threads(1)},
        floor={"one thread": 1.8},
    )
    torch.set_num_threads(threads)


# -- size ----------------------------------------------------------------------------------------------------


def chain_of_rings(edges: int, generator: torch.Generator) -> tuple[int, Tensor]:
    """A long molecule: each node hangs on one of the three before it, every twentieth edge closes a ring."""
    nodes = edges * 19 // 20
    node = torch.arange(1, nodes)
    parent = (node - torch.randint(1, 4, node.shape, generator=generator)).clamp(min=0)
    ring = torch.randint(nodes - 6, (edges - nodes + 1,), generator=generator)
    return nodes, torch.cat([torch.stack([node, parent], 1), torch.stack([ring, ring + 6], 1)])


def grid(edges: int, generator: torch.Generator) -> tuple[int, Tensor]:
    side = round((edges / 2) ** 0.5)
    node = torch.arange(side * side).reshape(side, side)
    right = torch.stack([node[:, :-1].flatten(), node[:, 1:].flatten()], 1)
    return side * side, torch.cat([right, torch.stack([node[:-1].flatten(), node[1:].flatten()], 1)])


def random_graph(edges: int, generator: torch.Generator) -> tuple[int, Tensor]:
    """Four columns a node, ends anywhere: the caches do not help."""
    nodes = edges // 2
    return nodes, torch.randint(nodes, (edges, 2), generator=generator)


FAMILIES = {"grid": grid, "chain of rings": chain_of_rings, "random": random_graph}


def call_of_size(family: str, size: int, graphs: int = 1) -> tuple[Callable[[], object], int]:
    """A call that serializes `graphs` graphs of about `size` edges, all different; their edges together."""
    generator = torch.Generator().manual_seed(0)
    parts, ptr = [], [0]
    for _ in range(graphs):
        nodes, columns = FAMILIES[family](size, generator)
        parts.append(columns + ptr[-1])
        ptr.append(ptr[-1] + nodes)
    columns = torch.cat(parts)
    edge_index = torch.stack([columns, columns.flip(1)], 1).reshape(-1, 2).T.contiguous()
    return functools.partial(serialize, edge_index, torch.tensor(ptr), seed=1), len(columns)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("family", FAMILIES)
def test_serialize_large(race: Race, family: str) -> None:
    """An edge of 10^6 takes at most 1.5 times as long as one of 10^3."""
    large, edges = call_of_size(family, 10**6)
    small, as_many = call_of_size(family, 10**3, graphs=1000)
    race(
        f"serialize {family} edges={edges} threads=1",
        large,
        {"1,000 graphs, as many edges": small},
        scale={"1,000 graphs, as many edges": edges / as_many},
        floor={"1,000 graphs, as many edges": 1 / 1.5},
    )


@pytest.mark.usefixtures("one_thread")
def test_scaling_curve() -> None:
    """10^6 edges, in graphs of each size."""
    lines = {}
    for family in FAMILIES:
        made = {size: call_of_size(family, size, 10**6 // size) for size in (10**3, 10**4, 10**5, 10**6)}
        times = turns({str(size): call for size, (call, _) in made.items()}, seconds=3.0)
        lines[family] = [
            (edges / (10**6 // size), 1e9 * times[str(size)].repeated / edges)
            for size, (_, edges) in made.items()
        ]
    Race.curve("serialize: time an edge", "edges of the graph", "ns an edge, one thread", lines)
