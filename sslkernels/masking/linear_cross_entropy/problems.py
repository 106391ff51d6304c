"""Inputs of masked_linear_cross_entropy and the lines that tests and benchmarks run."""

import functools
from typing import Any

import torch

from sslkernels.masking.linear_cross_entropy import reference


def masked_linear_cross_entropy(
    *,
    t: int,
    v: int,
    d: int,
    scored: float = 0.15,
    dtype: torch.dtype = torch.float32,
    bias: bool = False,
    ids: str = "int64",
    ignore_index: int = -100,
    scale: float = 1.0,
    device: str = "cpu",
    seed: int = 0,
) -> dict[str, Any]:
    """round(scored * t) of t rows scored, logits of standard deviation about `scale`; other rows hold NaN."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.full((t,), ignore_index)
    rows = torch.randperm(t, generator=generator)[: round(scored * t)]
    hidden = torch.randn(t, d, generator=generator, dtype=torch.float64)
    if v:
        labels[rows] = torch.randint(v, (len(rows),), generator=generator)
    hidden[labels == ignore_index] = torch.nan
    weight = torch.randn(v, d, generator=generator, dtype=torch.float64) * (scale / max(d, 1) ** 0.5)
    offset = torch.randn(v, generator=generator, dtype=torch.float64) * scale if bias else None
    tensors = {
        "hidden": hidden.to(dtype),
        "weight": weight.to(dtype),
        "labels": labels.to(getattr(torch, ids)),
        "bias": None if offset is None else offset.to(dtype),
    }
    moved = {name: None if value is None else value.to(device) for name, value in tensors.items()}
    return {**moved, "ignore_index": ignore_index}


@functools.wraps(masked_linear_cross_entropy, assigned=())  # the same keywords
def masked_linear_cross_entropy_backward(**keywords: Any) -> dict[str, Any]:
    """The forward's problem, its log-sum-exps, and upstream gradients of both signs, NaN where not scored."""
    made = masked_linear_cross_entropy(**keywords)
    loss, lse = reference.masked_linear_cross_entropy(**made)
    upstream = torch.cos(torch.arange(1.0, len(loss) + 1)).to(loss)
    upstream[made["labels"] == made["ignore_index"]] = torch.nan
    needs = [True, True, made["bias"] is not None]
    return {**made, "lse": lse, "grad_loss": upstream, "needs": needs}


@functools.wraps(masked_linear_cross_entropy, assigned=())
def masked_linear_cross_entropy_with_gradients(**keywords: Any) -> dict[str, Any]:
    made = masked_linear_cross_entropy(**keywords)
    return {**made, "mean": made["bias"] is not None, "needs": [True, True, made["bias"] is not None]}


SIZES = [
    "t=9 v=5 d=3 scored=0.5 dtype=fp64 bias=true",
    "t=40 v=11 d=5 scored=1 dtype=fp64",
    "t=5 v=4 d=3 scored=0 bias=true",
    "t=0 v=4 d=3 bias=true",
    "t=6 v=0 d=3",
    "t=6 v=5 d=0 scored=0.5 bias=true",
    "t=1 v=1 d=1 scored=1",
    "t=130 v=145 d=33 scored=0.4 bias=true",
    "t=65 v=531 d=24 scored=0.3 ids=int32 ignore_index=255",
    "t=33 v=129 d=16 scored=1 bias=true scale=20",
    "t=1100 v=9 d=8 scored=1 dtype=fp32 bias=true",
    "t=20 v=530 d=140 dtype=fp32",
    "t=2000 v=90 d=128 scored=0.05 dtype=fp32",
]
LINES = [
    f"{operator} {sizes}"
    for operator in (
        "masked_linear_cross_entropy",
        "masked_linear_cross_entropy_backward",
        "masked_linear_cross_entropy_with_gradients",
    )
    for sizes in SIZES
]

# What benchmarks/gpu.py times: the heads of small and base encoders.
TIMED = (
    "masked_linear_cross_entropy t=4096 v=30522 d=256 dtype=fp32",
    "masked_linear_cross_entropy t=4096 v=30522 d=256 dtype=bf16",
    "masked_linear_cross_entropy t=32768 v=30522 d=256 dtype=bf16",
    "masked_linear_cross_entropy t=32768 v=30522 d=768 dtype=bf16",
    "masked_linear_cross_entropy_with_gradients t=4096 v=30522 d=256 dtype=fp32",
)
