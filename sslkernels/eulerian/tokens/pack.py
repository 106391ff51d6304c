"""Laying token sequences into rows of a fixed length."""

import torch

from sslkernels._scalars import as_int
from sslkernels.eulerian.results import PackedBatch, TokenBatch
from sslkernels.eulerian.tokens.op import pack_rows
from sslkernels.eulerian.tokens.vocabulary import PAD

_MOST_TOKENS = (1 << 31) - 1


def pack(token_batch: TokenBatch, max_tokens: int) -> PackedBatch:
    """Lay every graph's tokens into one row, best fit first, in at most 2 ceil(T / max_tokens) + 1 rows.

    Longer graphs are laid first, each into the fullest row that still takes it (best-fit decreasing; Johnson,
    SIAM J. Comput. 1974). What a row has left is one segment of pad tokens. ptr and positions follow the
    segments; node_groups are renumbered so that no two graphs share one. Deterministic; a graph without
    tokens is a segment without tokens.

    ValueError names a graph longer than max_tokens. Cost: O(G log G + R max_tokens F).
    """
    if not torch.compiler.is_compiling():
        _check(token_batch)
        max_tokens = as_int("max_tokens", max_tokens, 1, _MOST_TOKENS)
    tokens, ptr, groups = token_batch
    segments, graph, source, positions = pack_rows(ptr, tokens.shape[0], max_tokens)
    padding = tokens.new_full((1, *tokens.shape[1:]), PAD)
    return PackedBatch(
        tokens=torch.cat([tokens, padding])[source],
        ptr=segments,
        positions=positions,
        node_groups=torch.cat([_apart(ptr, groups), groups.new_full((1,), -1)])[source],
        graph=graph,
    )


def _check(token_batch: TokenBatch) -> None:
    if not isinstance(token_batch, tuple) or len(token_batch) != 3:
        raise TypeError(
            f"token_batch must be a TokenBatch (tokens, ptr, node_groups), got {type(token_batch).__name__}"
        )
    tokens, _, groups = token_batch
    for name, value in (("tokens", tokens), ("node_groups", groups)):
        if not isinstance(value, torch.Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
        if value.dtype not in (torch.int32, torch.int64):
            raise ValueError(f"{name} must be int32 or int64, got {str(value.dtype).removeprefix('torch.')}")
    if tokens.dim() not in (1, 2):
        raise ValueError(f"tokens must have shape (T,) or (T, F), got {tuple(tokens.shape)}")
    if groups.shape != tokens.shape[:1]:
        raise ValueError(
            f"node_groups must have shape ({tokens.shape[0]},) as tokens has rows, got {tuple(groups.shape)}"
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
