"""Inputs of sample_tokens and the lines that tests and benchmarks run."""

from typing import Any

import torch


def sample_tokens(
    *,
    r: int,
    v: int,
    scale: float = 1.0,
    temperature: float = 1.0,
    rows: bool = False,
    allowed: str = "all",
    infinite: float = 0.0,
    named: bool = False,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    seed: int = 0,
) -> dict[str, Any]:
    """Normal logits of deviation `scale`, a share `infinite` of them -inf, column 0 finite and allowed.

    rows: a temperature of its own for every row, from 0 on. allowed: all, columns (V,) or cells (R, V), half
    of them, with NaN in the logits where forbidden. named: sample ids of any 64 bits.
    """
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(r, v, generator=generator, dtype=torch.float64) * scale
    logits[torch.rand(r, v, generator=generator) < infinite] = -torch.inf
    logits[:, :1] = 0
    largest = torch.finfo(dtype).max
    logits = torch.where(logits.isinf(), logits, logits.clamp(-largest, largest))
    flags = None
    if allowed != "all":
        flags = torch.rand(v if allowed == "columns" else (r, v), generator=generator) < 0.5
        flags[..., :1] = True
        logits = logits.masked_fill(~flags, torch.nan)
    each = torch.arange(r, dtype=torch.float64) / 4 if rows else None
    ids = torch.randint(-(2**63), 2**63 - 1, (r,), generator=generator) if named else None
    return {
        "logits": logits.to(dtype).to(device),
        "allowed": None if flags is None else flags.to(device),
        "temperature": temperature,
        "row_temperature": None if each is None else each.to(device),
        "sample_ids": None if ids is None else ids.to(device),
        "seed": seed,
        "step": seed + 1,
    }


LINES = [
    "sample_tokens r=5 v=7",
    "sample_tokens r=1 v=1",
    "sample_tokens r=0 v=5",
    "sample_tokens r=0 v=0 dtype=fp32",
    "sample_tokens r=4 v=256 temperature=0.5 seed=1",
    "sample_tokens r=4 v=257 temperature=2 allowed=columns seed=2",
    "sample_tokens r=17 v=300 scale=5 allowed=cells infinite=0.3 named=true seed=3 dtype=fp32",
    "sample_tokens r=5 v=1031 rows=true seed=4",
    "sample_tokens r=4 v=300 temperature=0 scale=0.01 seed=5",
    "sample_tokens r=3 v=300 temperature=0 allowed=cells seed=6 dtype=bf16",
    "sample_tokens r=3 v=300 scale=1e4 temperature=1e-5 seed=7",
    "sample_tokens r=3 v=300 scale=1e38 temperature=1e38 dtype=fp32 seed=8",
    "sample_tokens r=3 v=300 scale=1e30 temperature=1e30 dtype=bf16 seed=9",
    "sample_tokens r=2 v=30522 temperature=0.7 dtype=fp32 seed=10",
    "sample_tokens r=1 v=100003 scale=3 dtype=bf16 seed=11",
]

# What benchmarks/gpu.py times: a generator's scored rows, and a few rows of a large vocabulary.
TIMED = (
    "sample_tokens r=1024 v=30522 dtype=fp32",
    "sample_tokens r=8192 v=30522 dtype=bf16",
    "sample_tokens r=64 v=128000 dtype=bf16",
)
