"""The graph room against eager torch and torch_geometric: 512 molecules of 25 atoms and 54 directed bonds."""

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest
import torch

from sslkernels.graph import segment_softmax
from sslkernels.graph.segments import reference

NODES, EDGES, HEADS = 512 * 25, 512 * 54, 8


def edges() -> tuple[torch.Tensor, torch.Tensor]:
    """Scores (E, heads) of edges sorted by target, and the offsets of each node's in-edges."""
    generator = torch.Generator().manual_seed(0)
    degree = torch.randint(NODES, (EDGES,), generator=generator).bincount(minlength=NODES)
    ptr = torch.cat([torch.zeros(1, dtype=torch.int64), degree.cumsum(0)])
    return torch.randn(EDGES, HEADS, generator=generator), ptr


def peers(x: torch.Tensor, ptr: torch.Tensor) -> dict[str, Callable[[], Any]]:
    """Other ways to the same numbers; what can be worked out beforehand is."""
    segment = reference._segments(ptr, len(x))
    index = segment[:, None].expand_as(x)

    def eager() -> torch.Tensor:
        lowest = x.new_full((len(ptr) - 1, x.shape[1]), float("-inf"))
        top = lowest.scatter_reduce(0, index, x, "amax").index_select(0, segment)
        weights = (x - top).exp()
        return weights / x.new_zeros(lowest.shape).index_add(0, segment, weights).index_select(0, segment)

    found: dict[str, Callable[[], Any]] = {"eager": eager}
    if importlib.util.find_spec("torch_geometric") is not None:
        from torch_geometric.utils import softmax

        found["torch_geometric"] = lambda: softmax(x, segment, num_nodes=len(ptr) - 1)
    return found


@pytest.mark.parametrize("threads", [1, 2])
def test_segment_softmax(race: Any, threads: int) -> None:
    x, ptr = edges()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        name = f"segment_softmax n={EDGES} d={HEADS} segments={NODES} threads={threads}"
        race(name, lambda: segment_softmax(x, ptr), peers(x, ptr), floor={"eager": 4})
    finally:
        torch.set_num_threads(before)


def gpu_peers(operator: str, arguments: tuple[Any, ...]) -> dict[str, Callable[[], Any]]:
    """The same on any device, for benchmarks/gpu.py."""
    return peers(*arguments) if operator == "segment_softmax" else {}
