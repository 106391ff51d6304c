"""Batches for the tests of graph tokens, and the proof that a decoded batch is the encoded one."""

import functools
import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from sslkernels.eulerian.graph_batch import GraphBatch
from sslkernels.eulerian.results import TokenBatch
from sslkernels.eulerian.tokens.tokenizer import GraphTokenizer
from sslkernels.eulerian.tokens.vocabulary import FIRST_ID

Column = tuple[int, int, tuple[int, ...]]  # source, target (local), features
Graph = tuple[int, list[Column], list[tuple[int, ...]]]  # number of nodes, columns, node features

LAYOUTS = ("stacked", "flat")


def batch_of(graphs: Sequence[Graph], node_columns: int, edge_columns: int) -> GraphBatch:
    """A batch of graphs given by lists."""
    ptr, columns, nodes = [0], [], []
    for count, own, features in graphs:
        columns += [(ptr[-1] + u, ptr[-1] + v, row) for u, v, row in own]
        nodes += features
        ptr.append(ptr[-1] + count)

    def as_tensor(values: Any, *shape: int) -> Tensor:
        return torch.tensor(values, dtype=torch.int64).reshape(shape)

    return GraphBatch(
        as_tensor([[c[0] for c in columns], [c[1] for c in columns]], 2, len(columns)),
        as_tensor(ptr, len(ptr)),
        as_tensor(nodes, ptr[-1], node_columns),
        as_tensor([c[2] for c in columns], len(columns), edge_columns),
    )


def plain(num_nodes: int, edges: Sequence[tuple[int, int]]) -> Graph:
    """A graph without features, both columns of each edge, one of a self-loop."""
    columns: list[Column] = []
    for u, v in edges:
        columns.append((u, v, ()))
        if u != v:
            columns.append((v, u, ()))
    return num_nodes, columns, [()] * num_nodes


def random_graph(rng: random.Random, node_columns: int, edge_columns: int, largest: int = 9) -> Graph:
    """A multigraph with pairs, pairs of unlike features, lone columns, parallel edges and self-loops."""
    count = rng.choice([0, 1, 1, 2, 3, rng.randint(4, max(4, largest))])
    columns: list[Column] = []
    for _ in range(rng.choice([0, 1, 3, 2 * count]) if count else 0):
        u, v = rng.randrange(count), rng.randrange(count)
        row = tuple(rng.randrange(2) for _ in range(edge_columns))
        columns.append((u, v, row))
        if u != v and rng.random() < 0.7:
            other = tuple(rng.randrange(2) for _ in range(edge_columns)) if rng.random() < 0.2 else row
            columns.append((v, u, other))
    if rng.random() < 0.5:
        rng.shuffle(columns)
    return count, columns, [tuple(rng.randrange(3) for _ in range(node_columns)) for _ in range(count)]


@st.composite
def batches(draw: Callable[..., Any]) -> tuple[GraphBatch, dict[str, Any]]:
    """A batch of random multigraphs and the arguments of a tokenizer that holds it."""
    rng = draw(st.randoms(use_true_random=False))
    node_columns, edge_columns = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    graphs = [random_graph(rng, node_columns, edge_columns) for _ in range(draw(st.integers(0, 4)))]
    options = {
        "scope": draw(st.sampled_from([9, 10, 512])),
        "layout": draw(st.sampled_from(LAYOUTS)),
        "edge_direction": draw(st.booleans()),
    }
    sizes = {"node_features": [3] * node_columns, "edge_features": [2] * edge_columns}
    return batch_of(graphs, node_columns, edge_columns), {**sizes, **options}


@functools.cache
def molecules() -> GraphBatch:
    """The 4,991 readable molecules of the file that the rdkit wheel carries."""
    from rdkit import RDConfig

    from sslkernels.molecules import parse_smiles

    with open(os.path.join(RDConfig.RDDataDir, "NCI", "first_5K.smi")) as file:
        graphs = parse_smiles([line.split()[0] for line in file])
    readable = [graph for graph in graphs if graph is not None]
    assert len(readable) == 4991
    return GraphBatch.from_pyg(readable)


# -- the proof ---------------------------------------------------------------------------------------------


def first_visits(tokenizer: GraphTokenizer, encoded: TokenBatch, batch: GraphBatch) -> Tensor:
    """For every decoded node the node of the batch that it should be, read off the groups."""
    ids = encoded.tokens if encoded.tokens.dim() == 1 else encoded.tokens[:, 0]
    is_id = (ids >= FIRST_ID) & (ids < FIRST_ID + tokenizer.scope)
    owner = torch.arange(encoded.ptr.shape[0] - 1).repeat_interleave(encoded.ptr.diff())
    nodes = (batch.graph_ptr[owner] + encoded.node_groups)[is_id]
    return torch.tensor(list(dict.fromkeys(nodes.tolist())), dtype=torch.int64)


def columns_of(batch: GraphBatch, names: Tensor | None = None) -> Tensor:
    """(E, 2 + Fe) source, target and features, sorted; `names` renames nodes."""
    ends = batch.edge_index if names is None else names[batch.edge_index]
    rows = torch.cat([ends.T, batch.edge_features], dim=1)
    for column in reversed(range(rows.shape[1])):
        rows = rows[rows[:, column].argsort(stable=True)]
    return rows


def with_both_columns(batch: GraphBatch) -> GraphBatch:
    """What is left without edge_direction: columns of equal features pair up, every edge has both."""
    counts = Counter(
        (u, v, tuple(row))
        for (u, v), row in zip(batch.edge_index.T.tolist(), batch.edge_features.tolist(), strict=True)
    )
    columns: list[tuple[int, int, tuple[int, ...]]] = []
    for u, v, row in dict.fromkeys((min(u, v), max(u, v), row) for u, v, row in counts):
        if u == v:
            columns += [(u, u, row)] * counts[u, u, row]
        else:
            columns += [(u, v, row), (v, u, row)] * max(counts[u, v, row], counts[v, u, row])
    ends = torch.tensor([c[:2] for c in columns], dtype=torch.int64).reshape(-1, 2).T
    features = torch.tensor([c[2] for c in columns], dtype=torch.int64)
    return batch._replace(
        edge_index=ends, edge_features=features.reshape(len(columns), batch.edge_features.shape[1])
    )


def assert_reversible(tokenizer: GraphTokenizer, batch: GraphBatch, **options: Any) -> TokenBatch:
    """decode(encode(batch)) is isomorphic to the batch, features included: the isomorphism is checked."""
    encoded = tokenizer.encode(batch, **options)
    decoded = tokenizer.decode(encoded.tokens, encoded.ptr)
    assert all(tensor.dtype == torch.int64 for tensor in decoded)
    tokens = encoded.tokens
    assert tokens.dtype == torch.int32
    assert tokens.numel() == 0 or (int(tokens.min()) >= 4 and int(tokens.max()) < tokenizer.vocab_size)
    names = first_visits(tokenizer, encoded, batch)
    assert torch.equal(decoded.graph_ptr, batch.graph_ptr)
    assert torch.equal(names.sort().values, torch.arange(int(batch.graph_ptr[-1])))
    owner = torch.arange(batch.graph_ptr.shape[0] - 1).repeat_interleave(batch.graph_ptr.diff())
    assert torch.equal(owner[names], owner)
    assert torch.equal(decoded.node_features, batch.node_features[names])
    wanted = batch if tokenizer.edge_direction else with_both_columns(batch)
    assert torch.equal(columns_of(decoded, names), columns_of(wanted))
    return encoded
