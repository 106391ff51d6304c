"""serialize, deserialize and reindex in plain Python over tensors: the oracle, bit for bit."""

from itertools import pairwise

import torch
from torch import Tensor

from sslkernels._random import PURPOSE, draw, draw_word, stream_key
from sslkernels.eulerian.walks import directed as directed_walk
from sslkernels.eulerian.walks import undirected as undirected_walk
from sslkernels.eulerian.walks.words import Words, bounded

Column = tuple[int, int]


def samples(sample_ids: Tensor | None, graphs: int) -> list[int]:
    return list(range(graphs)) if sample_ids is None else sample_ids.tolist()


def columns_of(
    edge_index: Tensor, graph_ptr: Tensor, edge_ptr: Tensor | None
) -> list[tuple[int, list[Column]]]:
    """Each graph's first column and its columns, in local ids."""
    source, target = edge_index.tolist()
    ptr = graph_ptr.tolist()
    if edge_ptr is None:
        edges = torch.searchsorted(edge_index[0].contiguous(), graph_ptr.to(edge_index.dtype)).tolist()
    else:
        edges = edge_ptr.tolist()
    return [
        (edges[g], [(source[c] - ptr[g], target[c] - ptr[g]) for c in range(edges[g], edges[g + 1])])
        for g in range(len(ptr) - 1)
    ]


def serialize(
    edge_index: Tensor,
    graph_ptr: Tensor,
    edge_ptr: Tensor | None,
    undirected: bool,
    closed: bool,
    shuffle: bool,
    start: Tensor | None,
    seed: int,
    step: int,
    sample_ids: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    device, graphs = edge_index.device, graph_ptr.numel() - 1
    key = stream_key(seed, step)
    walk = undirected_walk.walk if undirected else directed_walk.walk
    starts = [-1] * graphs if start is None else start.tolist()
    sizes = graph_ptr.diff().tolist()
    ids = samples(sample_ids, graphs)
    nodes: list[int] = []
    edges: list[int] = []
    ptr = [0]
    for g, (first, columns) in enumerate(columns_of(edge_index, graph_ptr, edge_ptr)):
        words = Words(key, ids[g], shuffle)
        steps = walk(sizes[g], columns, closed=closed, start=starts[g], words=words)
        nodes += [node for node, _ in steps]
        edges += [column if column < 0 else first + column for _, column in steps]
        ptr.append(len(nodes))
    return (
        torch.tensor(nodes, dtype=torch.int32, device=device),
        torch.tensor(edges, dtype=torch.int32, device=device),
        torch.tensor(ptr, dtype=torch.int64, device=device),
    )


def deserialize(
    nodes: Tensor, edges: Tensor, ptr: Tensor, num_nodes: Tensor | None, undirected: bool
) -> tuple[Tensor, Tensor]:
    walked, names, offsets = nodes.tolist(), edges.tolist(), ptr.tolist()
    sizes = None if num_nodes is None else num_nodes.tolist()
    columns: list[Column] = []
    graph_ptr = [0]
    for g, (begin, end) in enumerate(pairwise(offsets)):
        found: dict[int, Column] = {}
        for i in range(begin + 1, end):
            if names[i] >= 0:
                found.setdefault(names[i], (walked[i - 1], walked[i]))
        for _, (u, v) in sorted(found.items()):
            a, b = (min(u, v), max(u, v)) if undirected else (u, v)
            columns.append((graph_ptr[g] + a, graph_ptr[g] + b))
            if undirected and a != b:
                columns.append((graph_ptr[g] + b, graph_ptr[g] + a))
        size = max(walked[begin:end], default=-1) + 1 if sizes is None else sizes[g]
        graph_ptr.append(graph_ptr[g] + size)
    edge_index = torch.tensor(columns, dtype=torch.int64, device=ptr.device).reshape(-1, 2).T.contiguous()
    return edge_index, torch.tensor(graph_ptr, dtype=torch.int64, device=ptr.device)


def random_ids(words: list[int], scope: int) -> list[int]:
    """Distinct ids of [0, scope), one a word: a Fisher-Yates shuffle of the scope that stops early."""
    moved: dict[int, int] = {}
    ids = []
    for i, word in enumerate(words):
        other = i + bounded(word, scope - i)
        ids.append(moved.get(other, other))
        moved[other] = moved.get(i, i)
    return ids


def reindex(
    nodes: Tensor, ptr: Tensor, scope: int, mode: str, seed: int, step: int, sample_ids: Tensor | None
) -> Tensor:
    key, walked, offsets = stream_key(seed, step), nodes.tolist(), ptr.tolist()
    ids: list[int] = []
    for sample, begin, end in zip(
        samples(sample_ids, len(offsets) - 1), offsets[:-1], offsets[1:], strict=True
    ):
        number: dict[int, int] = {}
        visits = [number.setdefault(node, len(number)) for node in walked[begin:end]]
        new = list(range(len(number)))
        if mode == "cyclic":
            word = draw(key, torch.tensor(sample), PURPOSE.reindex_offset, torch.tensor(0))[0]
            new = [(i + bounded(int(word), scope)) % scope for i in new]
        elif mode == "random" and new:
            places = torch.arange(len(new))
            new = random_ids(draw_word(key, torch.tensor(sample), PURPOSE.reindex, places).tolist(), scope)
        ids += [new[visit] for visit in visits]
    return torch.tensor(ids, dtype=torch.int32, device=nodes.device)
