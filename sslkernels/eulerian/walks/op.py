"""Walks over graphs that pass every edge, the graphs back from them, and ids for their nodes.

What a walk is, how it is found and how long it may be: sslkernels/eulerian/README.md.
"""

from typing import Any

import torch
from torch import Tensor

from sslkernels._op import Op
from sslkernels._random import require_seed
from sslkernels._scalars import as_bool, as_int, one_of
from sslkernels.eulerian.results import EulerPaths
from sslkernels.eulerian.walks import checks, reference


def _serialize_fake(edge_index: Tensor, graph_ptr: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    steps = torch.library.get_ctx().new_dynamic_size()
    return (
        edge_index.new_empty(steps, dtype=torch.int32),
        edge_index.new_empty(steps, dtype=torch.int32),
        torch.empty_like(graph_ptr),
    )


def _deserialize_fake(nodes: Tensor, edges: Tensor, ptr: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    columns = torch.library.get_ctx().new_dynamic_size()
    return ptr.new_empty(2, columns), torch.empty_like(ptr)


def _reindex_fake(nodes: Tensor, *_: Any) -> Tensor:
    return nodes.new_empty(nodes.shape, dtype=torch.int32)


_serialize = Op(
    "serialize(Tensor edge_index, Tensor graph_ptr, Tensor? edge_ptr, bool undirected, bool closed, "
    "bool shuffle, Tensor? start, SymInt seed, SymInt step, Tensor? sample_ids) "
    "-> (Tensor nodes, Tensor edges, Tensor ptr)",
    shapes="edge_index: 2 E int; graph_ptr: G+1 int64; edge_ptr: G+1 int64?; start: G int64?; "
    "sample_ids: G int64?",
    reference=reference.serialize,
    fake=_serialize_fake,
    check=checks.serialize,
    exceptions={"cuda": "undirected graphs only"},
)

_deserialize = Op(
    "deserialize(Tensor nodes, Tensor edges, Tensor ptr, Tensor? num_nodes, bool undirected) "
    "-> (Tensor edge_index, Tensor graph_ptr)",
    shapes="nodes: T int32; edges: T int32; ptr: G+1 int64; num_nodes: G int64?",
    reference=reference.deserialize,
    fake=_deserialize_fake,
    check=checks.deserialize,
)

_reindex = Op(
    "reindex(Tensor nodes, Tensor ptr, SymInt scope, str mode, SymInt seed, SymInt step, Tensor? sample_ids) "
    "-> Tensor ids",
    shapes="nodes: T int; ptr: G+1 int64; sample_ids: G int64?",
    reference=reference.reindex,
    fake=_reindex_fake,
    check=checks.reindex,
)


def _int64(value: Any) -> Any:
    """Offsets and local ids may come in 32 bits; anything else is left to the shape line."""
    return value.long() if isinstance(value, Tensor) and value.dtype == torch.int32 else value


def serialize(
    edge_index: Tensor,
    graph_ptr: Tensor,
    *,
    edge_ptr: Tensor | None = None,
    undirected: bool = True,
    closed: bool = False,
    shuffle: bool = True,
    start: Tensor | None = None,
    seed: int | None = None,
    step: int = 0,
    sample_ids: Tensor | None = None,
) -> EulerPaths:
    """A walk over each graph of a batch that passes every edge and shows every node.

    edge_index (2, E) int32 or int64: batch ids; columns in the order of the graphs. Undirected, the k-th
    (u, v) and the k-th (v, u) are one edge, a lone column and each self-loop column one more.
    graph_ptr (G+1,): where each graph's nodes begin, from 0. edge_ptr (G+1,): where its columns begin; saves
    the search. start (G,): local id of the first node, -1 free; binds the first component walked.
    sample_ids (G,), default 0..G-1.

    Returns EulerPaths: nodes and edges int32 (T,), ptr int64 (G+1,). Undirected walks are the shortest
    possible (open; or closed: each component's walk ends where it began) where a component has at most 12
    odd nodes, and close to it otherwise. Directed walks repeat no column where an Euler trail exists and jump
    only where no unwalked column can be reached. `shuffle` randomises start, direction, order of components
    and choices by (seed, step, sample id); without it the graph alone decides and no seed is needed.

    Raises ValueError naming the argument: ids outside their graph, offsets that descend or do not start at 0,
    start outside [-1, nodes), closed=True for a directed graph with a component not strongly connected.

    Cost: O(E + N) and about 2 us for a molecule on one core; graphs are shared out over torch's threads.
    Edmonds and Johnson, Mathematical Programming 5 (1973); Hierholzer, Mathematische Annalen 6 (1873).
    """
    seed = require_seed("serialize", seed, step) if as_bool("shuffle", shuffle) else 0
    return EulerPaths(
        *_serialize(
            edge_index,
            _int64(graph_ptr),
            _int64(edge_ptr),
            undirected,
            closed,
            shuffle,
            _int64(start),
            seed,
            step if shuffle else 0,
            _int64(sample_ids),
        )
    )


def deserialize(
    paths: EulerPaths, *, num_nodes: Tensor | None = None, undirected: bool = True
) -> tuple[Tensor, Tensor]:
    """The graphs that walks passed through: edge_index (2, E) int64 of batch ids and graph_ptr (G+1,) int64.

    Read from nodes and edges alone: steps that name one column are one edge. num_nodes (G,): nodes of each
    graph; without it the largest one that its walk shows says. Undirected: both columns of each edge, first
    (smaller id, larger id), one of a self-loop. Edges come in the order of the columns that name them: any
    walk of a graph gives the same result, and a directed graph comes back column by column.

    Raises ValueError naming the step: a first step that is not -1, a negative column other than a jump, a
    node outside [0, num_nodes), a column that joins two pairs of nodes; or naming ptr.

    Cost: O(T) time and memory.
    """
    if not isinstance(paths, tuple) or len(paths) != 3:
        raise TypeError(f"paths must be EulerPaths (nodes, edges, ptr), got {type(paths).__name__}")
    nodes, edges, ptr = paths
    return _deserialize(nodes, edges, _int64(ptr), _int64(num_nodes), undirected)


def reindex(
    nodes: Tensor,
    ptr: Tensor,
    *,
    scope: int,
    mode: str = "first_visit",
    seed: int | None = None,
    step: int = 0,
    sample_ids: Tensor | None = None,
) -> Tensor:
    """New ids in [0, scope) for the nodes of each walk, one a node: int32 (T,).

    nodes (T,) int32 or int64, in [0, 2^31); ptr (G+1,): where each walk begins. mode: "first_visit" counts
    nodes as they are met, "cyclic" goes on from a drawn id and wraps at scope, "random" draws ids without
    replacement, all choices alike. The drawing modes need a seed; a walk's ids are a function of
    (seed, step, sample id).

    Raises ValueError: a walk with more distinct nodes than `scope`, a node out of range, a malformed ptr, an
    unknown mode. Cost: O(T).
    """
    drawn = one_of("mode", mode, checks.MODES) != "first_visit"
    if not torch.compiler.is_compiling():
        scope = as_int("scope", scope)  # its range is the kernel's to check
    seed = require_seed("reindex", seed, step) if drawn else 0
    return _reindex(nodes, _int64(ptr), scope, mode, seed, step if drawn else 0, _int64(sample_ids))
