"""GraphTokenizer against GraphGPT's method (networkx walks, tokens as strings) and AutoGraph's compiled code.

All on the molecules that the rdkit wheel carries, one thread. AutoGraph's module is raced where it can be
imported as `sent_utils` (its Cython file, built by whoever has it); it is given CSR arrays and writes no
attributes.
"""

import functools
import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch

from sslkernels.eulerian import ATOM_FEATURES, BOND_FEATURES, GraphBatch, GraphTokenizer
from sslkernels.molecules import parse_smiles

STRING_MOLECULES = 100  # of the slow peer


@functools.cache
def molecules() -> GraphBatch:
    from rdkit import RDConfig

    with open(os.path.join(RDConfig.RDDataDir, "NCI", "first_5K.smi")) as file:
        graphs = parse_smiles([line.split()[0] for line in file])
    return GraphBatch.from_pyg([graph for graph in graphs if graph is not None])


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def single_graphs(batch: GraphBatch, stride: int) -> list[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """Every stride-th graph as arrays: nodes, columns, node features, edge features."""
    ptr, sources = batch.graph_ptr.numpy(), batch.edge_index[0].numpy()
    columns = np.searchsorted(np.maximum.accumulate(sources), ptr)
    graphs = []
    for graph in range(0, len(ptr) - 1, stride):
        own = slice(columns[graph], columns[graph + 1])
        nodes = slice(ptr[graph], ptr[graph + 1])
        ends = batch.edge_index.numpy()[:, own] - ptr[graph]
        graphs.append(
            (
                ptr[graph + 1] - ptr[graph],
                ends,
                batch.node_features.numpy()[nodes],
                batch.edge_features.numpy()[own],
            )
        )
    return graphs


# -- GraphGPT's method -------------------------------------------------------------------------------------


class StringTokenizer:
    """networkx makes a component Eulerian and walks it; a step is a row of strings in a dictionary.

    As in GraphGPT (Zhao et al., ICML 2025), v0.7: stacked rows of node, its attributes and those of the edge
    that led there, cut behind the last unseen edge, ids from a random first one on. Components are joined by
    jumps.
    """

    def __init__(self, scope: int = 512) -> None:
        words = ["<pad>", "<jump>", "<start>", "<seen>"] + [f"{node}" for node in range(scope)]
        words += [f"node#{f}#{value}" for f, size in enumerate(ATOM_FEATURES) for value in range(size)]
        words += [f"edge#{f}#{value}" for f, size in enumerate(BOND_FEATURES) for value in range(size)]
        self.scope, self.vocabulary = scope, {word: at for at, word in enumerate(words)}

    def __call__(
        self,
        count: int,
        ends: np.ndarray,
        node_features: np.ndarray,
        edge_features: np.ndarray,
        rng: np.random.Generator,
    ) -> torch.Tensor:
        graph = nx.Graph()
        graph.add_nodes_from(range(count))
        for (u, v), row in zip(ends.T.tolist(), edge_features.tolist(), strict=True):
            graph.add_edge(u, v, words=[f"edge#{f}#{value}" for f, value in enumerate(row)])
        node_words = [[f"node#{f}#{value}" for f, value in enumerate(row)] for row in node_features.tolist()]
        names: dict[int, str] = {}
        first = int(rng.integers(self.scope))
        rows = []
        for node, edge_words in self._steps(graph, rng):
            name = names.setdefault(node, str((first + len(names)) % self.scope))
            rows.append([self.vocabulary[word] for word in (name, *node_words[node], *edge_words)])
        return torch.tensor(rows)

    def _steps(self, graph: nx.Graph, rng: np.random.Generator) -> Iterator[tuple[int, list[str]]]:
        for at, component in enumerate(nx.connected_components(graph)):
            path = self._walk(graph.subgraph(component), rng)
            yield path[0], [("<jump>" if at else "<start>")] * len(BOND_FEATURES)
            seen = set()
            for u, v in pairwise(path):
                edge = frozenset((u, v))
                yield v, ["<seen>"] * len(BOND_FEATURES) if edge in seen else graph.edges[u, v]["words"]
                seen.add(edge)

    @staticmethod
    def _walk(graph: nx.Graph, rng: np.random.Generator) -> list[int]:
        nodes = list(graph)
        if len(nodes) == 1:
            return nodes
        circuit = graph if nx.is_eulerian(graph) else nx.eulerize(graph)
        source = nodes[int(rng.integers(len(nodes)))]
        path = [source] + [edge[1] for edge in nx.eulerian_circuit(circuit, source=source)]
        seen, last = set(), 0
        for at, (u, v) in enumerate(pairwise(path)):
            edge = frozenset((u, v))
            if edge not in seen:
                seen.add(edge)
                last = at + 1
        return path[: last + 1]


# -- AutoGraph ---------------------------------------------------------------------------------------------


class AutoGraph:
    """Its compiled sampler and reader over all molecules, or nothing where the module cannot be imported."""

    name = "AutoGraph, no attributes"

    def __init__(self, batch: GraphBatch) -> None:
        self._module: Any = importlib.import_module("sent_utils")
        self._matrices = [csr(*graph[:2]) for graph in single_graphs(batch, 1)]
        self._state = np.random.RandomState(0)

    @classmethod
    def where_present(cls, batch: GraphBatch) -> "list[AutoGraph]":
        return [cls(batch)] if importlib.util.find_spec("sent_utils") else []

    def encode(self) -> list[Any]:
        return [self._module.sample_sent(matrix, rng=self._state)[0] for matrix in self._matrices]

    def decode(self, sequences: list[Any]) -> list[Any]:
        return [self._module.reconstruct_graph_from_sent(sequence, -1, -2, -3) for sequence in sequences]


def csr(count: int, ends: np.ndarray) -> SimpleNamespace:
    """What AutoGraph's sampler reads of a scipy CSR matrix."""
    order = np.lexsort((ends[1], ends[0]))
    starts = np.zeros(count + 1, np.int32)
    np.add.at(starts, ends[0] + 1, 1)
    indices, indptr = ends[1][order].astype(np.int32), np.cumsum(starts).astype(np.int32)
    return SimpleNamespace(indices=indices, indptr=indptr, shape=(count, count))


# -- races -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["stacked", "flat"])
def test_encode(race: Any, layout: str) -> None:
    batch = molecules()
    count = batch.graph_ptr.shape[0] - 1
    tokenizer = GraphTokenizer(ATOM_FEATURES, BOND_FEATURES, layout=layout)
    strings, rng = StringTokenizer(), np.random.default_rng(0)
    some = single_graphs(batch, count // STRING_MOLECULES)
    method = "GraphGPT's method"
    peers: dict[str, Callable[[], object]] = {method: lambda: [strings(*graph, rng) for graph in some]}
    for peer in AutoGraph.where_present(batch):
        peers[AutoGraph.name] = peer.encode
    race(
        f"GraphTokenizer.encode molecules={count} layout={layout} threads=1",
        lambda: tokenizer.encode(batch, seed=0),
        peers,
        scale={method: count / len(some)},
        floor={method: 200.0, AutoGraph.name: 2.0},
    )


@pytest.mark.parametrize("layout", ["stacked", "flat"])
def test_decode(race: Any, layout: str) -> None:
    batch = molecules()
    count = batch.graph_ptr.shape[0] - 1
    tokenizer = GraphTokenizer(ATOM_FEATURES, BOND_FEATURES, layout=layout)
    encoded = tokenizer.encode(batch, seed=0)
    peers: dict[str, Callable[[], object]] = {"our encode": lambda: tokenizer.encode(batch, seed=0)}
    for peer in AutoGraph.where_present(batch):
        peers[AutoGraph.name] = functools.partial(peer.decode, peer.encode())
    race(
        f"GraphTokenizer.decode molecules={count} layout={layout} threads=1",
        lambda: tokenizer.decode(encoded.tokens, encoded.ptr),
        peers,
        floor=dict.fromkeys(peers, 1.0),
    )
