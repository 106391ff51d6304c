"""Operators behind GraphTokenizer and pack: columns paired up, walks to tokens, tokens to graphs and rows.

The grammar of the tokens is drawn in csrc/eulerian/tokens/core.h and explained in
sslkernels/eulerian/README.md. All are native on CPU only: their inputs come from a loader.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sslkernels._op import Op
from sslkernels.eulerian.tokens import reference

_Results3 = tuple[Tensor, Tensor, Tensor]
_Results4 = tuple[Tensor, Tensor, Tensor, Tensor]


def _new_size() -> torch.SymInt:
    return torch.library.get_ctx().new_dynamic_size()


# -- pair_columns ------------------------------------------------------------------------------------------


def _fake_pair_columns(edge_index: Tensor, graph_ptr: Tensor, edge_features: Tensor) -> _Results4:
    walked = _new_size()
    return (
        edge_index.new_empty(2, walked),
        torch.empty_like(graph_ptr),
        edge_index.new_empty(walked),
        edge_index.new_empty(walked, dtype=torch.int32),
    )


def _check_columns(edge_index: Tensor, graph_ptr: Tensor, edge_features: Tensor) -> None:
    check_ptr("graph_ptr", graph_ptr, int(graph_ptr[-1]))
    if edge_index.shape[1] == 0:
        return
    graph = torch.searchsorted(graph_ptr, edge_index[0].contiguous(), right=True).cummax(0).values
    low = graph_ptr[(graph - 1).clamp(min=0)]
    high = graph_ptr[graph.clamp(max=graph_ptr.shape[0] - 1)]
    wrong = ((edge_index < low) | (edge_index >= high)).nonzero()
    if wrong.shape[0]:
        row, column = min(wrong.tolist(), key=lambda place: place[1])
        raise ValueError(
            f"edge_index[{row}, {column}] is {int(edge_index[row, column])}, outside [{int(low[column])}, "
            f"{int(high[column])}): columns go in the order of the graphs and join nodes of one"
        )


def check_ptr(name: str, ptr: Tensor, end: int) -> None:
    """ValueError unless the offsets start at 0, never fall, and end at `end`."""
    values = ptr.tolist()
    for at, value in enumerate(values):
        if value < (values[at - 1] if at else 0) or (at == 0 and value != 0):
            raise ValueError(f"{name} must start at 0 and never fall, got {name}[{at}] = {value}")
    if values[-1] != end:
        raise ValueError(f"{name} must end at {end}, got {values[-1]}")


# (edge_index, graph_ptr, edge features) -> the columns that the walk gets, their ptr, the column of the batch
# each stands for, and its kind: 0 lone, 1 one of a pair, 2 lone with its ends exchanged.
#
# The walk pairs the k-th (u, v) of a graph with its k-th (v, u). Where the features of every such pair are
# equal, the columns pass as they are. Where some are not, columns pair up only with columns of equal features
# (the k-th with the k-th again), and the graph passes with one column an edge, smaller end first, which the
# walk can pair with nothing. Cost: O(N + E), two counting sorts unless each (u, v) stands beside its (v, u).
pair_columns = Op(
    "pair_columns(Tensor edge_index, Tensor graph_ptr, Tensor edge_features)"
    " -> (Tensor walk_index, Tensor walk_ptr, Tensor column, Tensor kind)",
    shapes="edge_index: 2 E int64; graph_ptr: G+1 int64; edge_features: E Fe int64",
    reference=reference.pair_columns,
    fake=_fake_pair_columns,
    check=_check_columns,
)

# -- encode ------------------------------------------------------------------------------------------------


def _fake_encode_tokens(
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
) -> _Results3:
    length = ids.shape[0] if stacked else _new_size()
    shape = (length, 2 + len(node_sizes) + len(edge_sizes)) if stacked else (length,)
    return (
        ids.new_empty(shape, dtype=torch.int32),
        torch.empty_like(ptr),
        ptr.new_empty(length),
    )


def _check_encode_tokens(*args: object) -> None:
    features, sizes = args[9:11], args[11:13]
    for name, values, limits in zip(("node_features", "edge_features"), features, sizes, strict=True):
        check_categories(name, values, limits)  # type: ignore[arg-type]


def check_categories(name: str, features: Tensor, sizes: Sequence[int]) -> None:
    """ValueError unless every feature lies in [0, its number of categories)."""
    limits = torch.tensor(sizes, dtype=torch.int64, device=features.device)
    wrong = ((features < 0) | (features >= limits)).nonzero()
    if wrong.shape[0]:
        row, column = wrong[0].tolist()
        raise ValueError(
            f"{name}[{row}, {column}] is {int(features[row, column])}, outside [0, {sizes[column]})"
        )


# Steps of a walk (ids: re-indexed, nodes: local, edges: columns of walk_index, -1 first, -2 jump), packed by
# ptr, and features -> tokens, their ptr, their groups. Cost: O(tokens).
encode_tokens = Op(
    "encode_tokens(Tensor ids, Tensor nodes, Tensor edges, Tensor ptr, Tensor walk_index, Tensor walk_ptr,"
    " Tensor column, Tensor kind, Tensor graph_ptr, Tensor node_features, Tensor edge_features,"
    " int[] node_sizes, int[] edge_sizes, SymInt scope, bool stacked, bool edge_direction)"
    " -> (Tensor tokens, Tensor token_ptr, Tensor node_groups)",
    shapes="ids: T int32; nodes: T int32; edges: T int32; ptr: G+1 int64; walk_index: 2 W int64;"
    " walk_ptr: G+1 int64; column: W int64; kind: W int32; graph_ptr: G+1 int64; node_features: N Fn int64;"
    " edge_features: E Fe int64",
    reference=reference.encode_tokens,
    fake=_fake_encode_tokens,
    check=_check_encode_tokens,
)

# -- decode ------------------------------------------------------------------------------------------------


def _fake_decode_tokens(
    tokens: Tensor,
    ptr: Tensor,
    node_sizes: Sequence[int],
    edge_sizes: Sequence[int],
    scope: int,
    stacked: bool,
    edge_direction: bool,
) -> _Results4:
    nodes, columns = _new_size(), _new_size()
    return (
        ptr.new_empty(2, columns),
        torch.empty_like(ptr),
        ptr.new_empty(nodes, len(node_sizes)),
        ptr.new_empty(columns, len(edge_sizes)),
    )


def _check_decode_tokens(tokens: Tensor, ptr: Tensor, *_: object) -> None:
    check_ptr("ptr", ptr, tokens.shape[0])


# Tokens packed by ptr -> edge_index, graph_ptr, node and edge features. Cost: O(tokens), and for an edge's
# second pass the smaller degree of its ends.
decode_tokens = Op(
    "decode_tokens(Tensor tokens, Tensor ptr, int[] node_sizes, int[] edge_sizes, SymInt scope, bool stacked,"
    " bool edge_direction)"
    " -> (Tensor edge_index, Tensor graph_ptr, Tensor node_features, Tensor edge_features)",
    shapes="tokens: T | T F int; ptr: G+1 int64",
    reference=reference.decode_tokens,
    fake=_fake_decode_tokens,
    check=_check_decode_tokens,
)

# -- pack_rows ---------------------------------------------------------------------------------------------


def _fake_pack_rows(ptr: Tensor, length: int, max_tokens: int) -> _Results4:
    segments, rows = _new_size(), _new_size()
    return (
        ptr.new_empty(segments + 1),
        ptr.new_empty(segments),
        ptr.new_empty(rows, max_tokens),
        ptr.new_empty(rows, max_tokens),
    )


def _check_pack_rows(ptr: Tensor, length: int, max_tokens: int) -> None:
    check_ptr("ptr", ptr, length)
    for graph, length in enumerate(ptr.diff().tolist()):
        if length > max_tokens:
            raise ValueError(f"graph {graph} has {length} tokens, more than max_tokens = {max_tokens}")


# Offsets of packed sequences, `length` tokens in all -> for rows of max_tokens: offsets of the segments, the
# graph of each (-1: padding), the token that each place takes (`length`: padding), and its position inside
# its segment. Cost: O(G log G + R max_tokens).
pack_rows = Op(
    "pack_rows(Tensor ptr, SymInt length, SymInt max_tokens)"
    " -> (Tensor segment_ptr, Tensor graph, Tensor source, Tensor positions)",
    shapes="ptr: G+1 int64",
    reference=reference.pack_rows,
    fake=_fake_pack_rows,
    check=_check_pack_rows,
)
