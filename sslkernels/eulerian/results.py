"""What the functions of the room return."""

from typing import Any, NamedTuple


class EulerPaths(NamedTuple):
    """Walks over G graphs, packed: a graph's steps are its edges walked, its jumps, and one."""

    nodes: Any  # int32 (T,): local id of the node at each step
    edges: Any  # int32 (T,): first column of the edge that led there; -1 at a first step, -2 for a jump
    ptr: Any  # int64 (G+1,): where each graph's steps begin


class TokenBatch(NamedTuple):
    """Token sequences of G graphs, packed."""

    tokens: Any  # int32 (T,), or (T, F) for stacked tokens
    ptr: Any  # int64 (G+1,): where each graph's tokens begin
    node_groups: Any  # int64 (T,): numbers inside a graph, one a node (flat: also one an edge), -1: none


class PackedBatch(NamedTuple):
    """Token sequences laid into R rows of max_tokens; S segments: the graphs, and the padding of rows."""

    tokens: Any  # (R, max_tokens) or (R, max_tokens, F), the pad token behind the last graph of a row
    ptr: Any  # int64 (S+1,): segment offsets into the flattened rows, ending at R * max_tokens
    positions: Any  # int64 (R, max_tokens): 0, 1, ... anew in every segment
    node_groups: Any  # int64 (R, max_tokens): no group in two graphs of a row, -1 on padding
    graph: Any  # int64 (S,): which graph of the batch a segment is, -1 for padding
