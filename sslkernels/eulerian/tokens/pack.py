"""Laying token sequences into rows of a fixed length."""

import torch

from sslkernels.eulerian.results import PackedBatch, TokenBatch
from sslkernels.eulerian.tokens.op import pack_rows
from sslkernels.eulerian.tokens.vocabulary import PAD


def pack(token_batch: TokenBatch, max_tokens: int) -> PackedBatch:
    """Lay every graph's tokens into one row, best fit first, in at most 2 ceil(T / max_tokens) + 1 rows.

    Longer graphs are laid first, each into the fullest row that still takes it (best-fit decreasing; Johnson,
    SIAM J. Comput. 1974). What a row has left is one segment of pad tokens. ptr and positions follow the
    segments; node_groups are renumbered so that no two graphs share one. Deterministic; a graph without
    tokens is a segment without tokens.

    ValueError names a graph longer than max_tokens. Cost: O(G log G + R max_tokens F).
    """
    tokens, ptr, groups = token_batch
    if not torch.compiler.is_compiling():
        if isinstance(max_tokens, bool) or not hasattr(max_tokens, "__index__"):
            raise TypeError(f"max_tokens must be an int, got {type(max_tokens).__name__}")
        if max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {max_tokens}")
    if tokens.shape[0] != groups.shape[0]:
        raise ValueError(f"node_groups must have {tokens.shape[0]} entries, got {groups.shape[0]}")
    segments, graph, source, positions = pack_rows(ptr, tokens.shape[0], max_tokens)
    padding = tokens.new_full((1, *tokens.shape[1:]), PAD)
    return PackedBatch(
        tokens=torch.cat([tokens, padding])[source],
        ptr=segments,
        positions=positions,
        node_groups=torch.cat([_apart(ptr, groups), groups.new_full((1,), -1)])[source],
        graph=graph,
    )


def _apart(ptr: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """Groups renumbered so that no two graphs share one; -1 stays."""
    lengths = ptr.diff()
    owner = torch.arange(lengths.shape[0], device=ptr.device).repeat_interleave(
        lengths, output_size=groups.shape[0]
    )
    counts = torch.zeros_like(lengths).scatter_reduce(0, owner, groups + 1, "amax")
    before = counts.cumsum(0) - counts
    return torch.where(groups < 0, -1, groups + before[owner])
