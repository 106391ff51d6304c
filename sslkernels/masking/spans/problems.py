"""Problem lines of the span operators; the keywords are those of the function of their name."""

from typing import Any

import torch

from sslkernels.masking.spans.checks import length_limits


def _lengths(b: int, l: int, kind: str, dtype: str, generator: torch.Generator) -> torch.Tensor:  # noqa: E741
    """full: all l; mixed: anything from 0 to l, both of them among it; outside: also some that are not."""
    lengths = torch.full((b,), l)
    if kind == "outside":
        lengths[::2] = torch.tensor([-1, l + 1, 2**31 - 1, -(2**31)]).repeat(b)[: len(lengths[::2])]
    if kind == "mixed":
        lengths = torch.randint(0, l + 1, (b,), generator=generator)
        lengths[:2] = torch.tensor([0, l])[:b]
    return lengths.to(getattr(torch, dtype))


def _common(
    b: int,
    l: int,  # noqa: E741
    lengths: str,
    dtype: str,
    samples: bool,
    seed: int,
    device: str,
) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    names = torch.randint(-(2**63), 2**63 - 1, (b,), generator=generator) if samples else None
    return {
        "lengths": _lengths(b, l, lengths, dtype, generator).to(device),
        "sample_ids": None if names is None else names.to(device),
        "seed": seed * 2**40 + 1,
        "step": 2**33 + 3,
    }


def span_mask(
    *,
    b: int,
    l: int,  # noqa: E741
    rate: float = 0.65,
    span: int = 10,
    least: int = 0,
    lengths: str = "mixed",
    of: str = "int64",
    samples: bool = False,
    seed: int = 7,
    device: str = "cpu",
) -> dict[str, Any]:
    """b rows padded to l."""
    rows = _common(b, l, lengths, of, samples, seed, device)
    return {**rows, "max_length": l, "rate": float(rate), "span": span, "min_spans": least}


def geometric_span_groups(
    *,
    b: int,
    l: int,  # noqa: E741
    p: float = 0.2,
    longest: int = 10,
    budget: float = 0.15,
    lengths: str = "mixed",
    of: str = "int64",
    samples: bool = False,
    seed: int = 7,
    device: str = "cpu",
) -> dict[str, Any]:
    """b rows padded to l."""
    rows = _common(b, l, lengths, of, samples, seed, device)
    return {**rows, "max_length": l, "budget": float(budget), "limits": length_limits(p, longest)}


def span_corruption(
    *,
    b: int,
    l: int,  # noqa: E741
    density: float = 0.15,
    mean: float = 3.0,
    first: int = 32099,
    eos: int | None = None,
    pad: int = 0,
    lengths: str = "mixed",
    of: str = "int64",
    ids: str = "int64",
    samples: bool = False,
    seed: int = 7,
    device: str = "cpu",
) -> dict[str, Any]:
    """b rows of up to l tokens."""
    tokens = torch.randint(0, 32000, (b, l), generator=torch.Generator().manual_seed(seed + 1))
    return {
        **_common(b, l, lengths, of, samples, seed, device),
        "ids": tokens.to(getattr(torch, ids)).to(device),
        "noise_density": float(density),
        "mean_span": float(mean),
        "sentinel_start": first,
        "eos_id": eos,
        "pad_id": pad,
    }


LINES = (
    "span_mask b=5 l=133",
    "span_mask b=9 l=61 lengths=full samples=true",
    "span_mask b=15 l=9 span=3 least=2 of=int32",
    "span_mask b=6 l=40 span=1 rate=0.5",
    "span_mask b=6 l=20 span=2 rate=1e300",
    "span_mask b=6 l=70 rate=0",
    "span_mask b=7 l=30 span=40 least=3",
    "span_mask b=2 l=1100 rate=0.4 span=20",
    "span_mask b=0 l=8",
    "span_mask b=3 l=0",
    "geometric_span_groups b=5 l=133",
    "geometric_span_groups b=9 l=61 lengths=full samples=true",
    "geometric_span_groups b=15 l=9 of=int32 budget=0.5",
    "geometric_span_groups b=4 l=70 budget=1 p=0.01 longest=300",
    "geometric_span_groups b=4 l=40 budget=0.2 p=1",
    "geometric_span_groups b=4 l=70 budget=0",
    "geometric_span_groups b=2 l=1100 budget=0.01 longest=1",
    "geometric_span_groups b=0 l=8",
    "geometric_span_groups b=3 l=0",
    "span_corruption b=5 l=133",
    "span_corruption b=3 l=61 lengths=full samples=true eos=1 pad=-1",
    "span_corruption b=15 l=9 of=int32 ids=int32 density=0.5 mean=1",
    "span_corruption b=8 l=3 eos=1",
    "span_corruption b=4 l=40 density=0.55 mean=1",
    "span_corruption b=4 l=70 density=1 mean=1e-300",
    "span_corruption b=4 l=70 density=0 mean=1e300",
    "span_corruption b=2 l=1100 mean=11",
    "span_corruption b=0 l=8",
    "span_corruption b=3 l=0 eos=7",
)

# Lengths that a GPU's kernel does not look at: nothing is compared, but it must stay inside its memory.
UNCHECKED = (
    "span_mask b=9 l=40 lengths=outside",
    "span_mask b=9 l=40 lengths=outside of=int32 least=99",
    "geometric_span_groups b=9 l=40 lengths=outside budget=1",
)

# What benchmarks/gpu.py times: batches of speech and of text.
TIMED = (
    "span_mask b=32 l=1500",
    "span_mask b=2048 l=1500",
    "geometric_span_groups b=256 l=512",
    "geometric_span_groups b=4096 l=512",
    "span_corruption b=256 l=512 lengths=full",
    "span_corruption b=4096 l=512 lengths=full",
)
