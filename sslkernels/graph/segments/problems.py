"""Problem lines of the segment operators; the keywords are those of the function of the operator's name."""

from typing import Any

import torch
from torch import Tensor

from sslkernels.graph.segments import reference


def _ptr(n: int, segments: int, lengths: str, generator: torch.Generator) -> Tensor:
    """Cuts of n rows. uniform: some segments are empty; one: all rows in the first; ends: half in the first
    and half in the last; outside: malformed.
    """
    cuts = torch.randint(0, n + 1, (max(segments - 1, 0),), generator=generator).sort().values
    if lengths == "one":
        cuts = torch.full_like(cuts, n)
    if lengths == "ends":
        cuts = torch.full_like(cuts, n // 2)
    if lengths == "outside":
        # Close by: what lies far away may belong to another tensor, where a sanitizer sees nothing amiss.
        cuts = torch.where(torch.arange(len(cuts)) % 2 == 0, torch.tensor(-2), torch.tensor(n + 2))
    return torch.cat([torch.zeros(1, dtype=torch.int64), cuts, torch.full((min(segments, 1),), n)])


def segment_softmax(
    *,
    n: int,
    d: int = 0,
    segments: int,
    lengths: str = "uniform",
    scale: float = 1.0,
    special: str | None = None,
    ids: str = "int64",
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    seed: int = 0,
) -> dict[str, Any]:
    """d=0: x is (n,). special: entries of -inf ("lowest"), NaN or +inf ("nan", "inf") among the others."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d or 1, generator=generator, dtype=torch.float64) * scale
    ptr = _ptr(n, segments, lengths, generator)
    if special == "lowest":
        x[torch.rand(x.shape, generator=generator) < 0.6] = float("-inf")
    elif special is not None:
        x[torch.rand(x.shape, generator=generator) < 0.05] = float(special)
    x = x if d else x.flatten()
    return {"x": x.to(device, dtype), "ptr": ptr.to(device, getattr(torch, ids))}


def segment_softmax_backward(
    *,
    n: int,
    d: int = 0,
    segments: int,
    lengths: str = "uniform",
    ids: str = "int64",
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> dict[str, Any]:
    made = segment_softmax(n=n, d=d, segments=segments, lengths=lengths, ids=ids, dtype=dtype, device=device)
    x = made.pop("x")
    generator = torch.Generator().manual_seed(1)
    grad_out = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x)
    return {"grad_out": grad_out, "out": reference.segment_softmax(x, made["ptr"]), **made}


LINES = (
    "segment_softmax n=37 d=5 segments=11",
    "segment_softmax n=61 segments=9 ids=int32",
    "segment_softmax n=270 d=1 segments=2 lengths=one scale=20",
    "segment_softmax n=700 d=2 segments=5 lengths=ends dtype=fp32",
    "segment_softmax n=260 d=33 segments=3 lengths=one dtype=bf16",
    "segment_softmax n=40 d=3 segments=9 special=lowest dtype=fp32",
    "segment_softmax n=600 d=2 segments=3 special=lowest dtype=fp32",
    "segment_softmax n=90 d=3 segments=30 special=nan dtype=fp32",
    "segment_softmax n=90 d=3 segments=30 special=inf dtype=fp16",
    "segment_softmax n=0 d=4 segments=3 dtype=fp32",
    "segment_softmax n=0 segments=0 dtype=fp32",
    "segment_softmax n=5 segments=1 dtype=fp32",
    "segment_softmax n=20000 d=8 segments=7000 dtype=fp32",
    "segment_softmax n=1 d=1030 segments=2 dtype=fp32",
    "segment_softmax_backward n=37 d=5 segments=11",
    "segment_softmax_backward n=61 segments=9 ids=int32 dtype=fp32",
    "segment_softmax_backward n=700 d=2 segments=5 lengths=ends dtype=fp32",
)

# Offsets that a GPU's kernel does not look at: nothing is compared, but it must stay inside its memory.
UNCHECKED = (
    "segment_softmax n=40 d=3 segments=9 lengths=outside dtype=fp32",
    "segment_softmax n=600 d=2 segments=4 lengths=outside dtype=fp32",
)

# What benchmarks/gpu.py times: the edges of batches of molecules, by target.
TIMED = (
    "segment_softmax n=20000 d=8 segments=9000 dtype=fp32",
    "segment_softmax n=200000 d=8 segments=90000 dtype=fp32",
    "segment_softmax n=2000000 d=8 segments=900000 dtype=fp32",
    "segment_softmax n=2000000 d=8 segments=900000 dtype=bf16",
)
