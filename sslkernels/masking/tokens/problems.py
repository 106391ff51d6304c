"""Problem lines of corrupt_tokens; the keywords are those of the function of its name."""

from typing import Any

import torch

from sslkernels._scalars import threshold
from sslkernels.masking.tokens.arguments import mix_limits

SCHEMES: dict[str, tuple[tuple[float, float, float], str]] = {
    "mlm": ((0.8, 0.1, 0.1), "original"),
    "rts": ((0.0, 1.0, 0.0), "selected"),
    "slm": ((0.0, 1.0, 0.0), "original"),
    "electra": ((0.85, 0.0, 0.15), "changed"),
    "mask": ((1.0, 0.0, 0.0), "original"),
    "swap_changed": ((0.0, 1.0, 0.0), "changed"),
}


def _groups(kind: str, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """words: runs of one to four; nodes: labels that come back, with gaps, -1 among them."""
    if kind == "words":
        steps = torch.rand(shape, generator=generator) < 0.6
        return steps.long().cumsum(-1) - 1
    labels = torch.randint(-1, max(1, shape[-1] // 3), shape, generator=generator)
    return torch.where(labels < 0, labels, labels * (2**33) + 5)


def _segments(total: int, batch: int, generator: torch.Generator) -> torch.Tensor:
    cuts = torch.randint(0, total + 1, (max(batch - 1, 0),), generator=generator).sort().values
    return torch.cat([torch.zeros(1, dtype=torch.int64), cuts, torch.full((min(batch, 1),), total)])


def corrupt_tokens(
    *,
    b: int,
    l: int,  # noqa: E741
    f: int = 0,
    v: int = 1000,
    scheme: str = "mlm",
    rate: float | None = 0.15,
    groups: str | None = None,
    maskable: bool = False,
    specials: int = 4,
    clusters: int = 0,
    exclude: bool = False,
    least: int | None = 0,
    capacity: int = -1,
    packed: bool = False,
    ids: str = "int64",
    samples: bool = False,
    seed: int = 7,
    device: str = "cpu",
) -> dict[str, Any]:
    """b samples of l tokens (packed: b segments of b * l tokens), f stacked columns; none: one a row."""
    generator = torch.Generator().manual_seed(seed)
    packed = packed or f > 0
    shape = (b * l, max(f, 1)) if packed else (b, l)
    tokens = torch.randint(0, v, shape, generator=generator, dtype=getattr(torch, ids))
    mix, labels = SCHEMES[scheme]
    mask_limit, random_limit = mix_limits(mix)
    special_ids = (
        sorted({-3, *torch.randint(0, v, (specials,), generator=generator).tolist()}) if specials else []
    )
    tables: tuple[Any, ...] = (None,) * 4
    if clusters:
        from sslkernels.masking.tokens.clusters import TokenClusters

        made = TokenClusters(torch.randint(0, clusters, (v,), generator=generator) * 2, excluded_ids=[1])
        made.counts += torch.randint(0, 9, made.counts.shape, generator=generator)
        tables = made.tables(special_ids, torch.device("cpu"))
    flat = shape if not packed else (b * l,)
    arguments = {
        "ids": tokens,
        "ptr": _segments(b * l, b, generator) if packed else None,
        "sample_ids": torch.randint(-(2**62), 2**62, (b,), generator=generator) if samples else None,
        "limit": 0 if rate is None else threshold(rate),
        "row_limit": torch.randint(0, 2**32, (b,), generator=generator) if rate is None else None,
        "mask_limit": mask_limit,
        "random_limit": random_limit,
        "mask_id": 3,
        "vocab_size": v,
        "special_ids": special_ids,
        "maskable": torch.rand(shape, generator=generator) < 0.7 if maskable else None,
        "groups": None if groups is None else _groups(groups, flat, generator).reshape(shape[0], -1),
        **dict(zip(("cluster_of", "cluster_tokens", "cluster_ptr", "cluster_limits"), tables, strict=True)),
        "labels": labels,
        "exclude_original": exclude,
        "min_selected": least or 0,
        "row_min_selected": torch.randint(0, 9, (b,), generator=generator) if least is None else None,
        "ignore_index": -100,
        "capacity": capacity,
        "seed": seed * 2**40 + 1,
        "step": 3,
    }
    return {
        k: value.to(device) if isinstance(value, torch.Tensor) else value for k, value in arguments.items()
    }


def row_uniform(*, b: int, seed: int = 7, device: str = "cpu") -> dict[str, Any]:
    """b rows with ids of any 64 bits."""
    generator = torch.Generator().manual_seed(seed)
    sample_ids = torch.randint(-(2**63), 2**63 - 1, (b,), generator=generator)
    return {"sample_ids": sample_ids.to(device), "seed": seed, "step": 2**40}


LINES = (
    "row_uniform b=1000",
    "row_uniform b=0",
    "corrupt_tokens b=4 l=33",
    "corrupt_tokens b=3 l=1021 capacity=200",
    "corrupt_tokens b=2 l=77 rate=0 least=12",
    "corrupt_tokens b=2 l=77 rate=1 scheme=mask ids=int32",
    "corrupt_tokens b=5 l=40 rate=none least=none samples=true capacity=3",
    "corrupt_tokens b=0 l=8 capacity=2",
    "corrupt_tokens b=3 l=0 capacity=2 groups=words",
    "corrupt_tokens b=7 l=19 groups=words rate=0.3 least=2",
    "corrupt_tokens b=7 l=50 groups=nodes rate=0.5 maskable=true ids=int32",
    "corrupt_tokens b=9 l=30 packed=true samples=true scheme=rts capacity=6",
    "corrupt_tokens b=9 l=30 packed=true groups=nodes rate=none least=none scheme=electra",
    "corrupt_tokens b=6 l=21 f=3 groups=nodes rate=0.4 maskable=true capacity=9 scheme=swap_changed",
    "corrupt_tokens b=6 l=21 f=5 rate=0.4 specials=40 v=90 scheme=rts least=3",
    "corrupt_tokens b=4 l=64 v=11 specials=6 exclude=true scheme=slm rate=0.7",
    "corrupt_tokens b=2 l=64 v=400 specials=60 exclude=true scheme=swap_changed rate=0.7",
    "corrupt_tokens b=4 l=90 v=300 clusters=7 scheme=rts rate=0.5",
    "corrupt_tokens b=4 l=90 v=24 clusters=17 scheme=swap_changed rate=0.8 exclude=true",
    "corrupt_tokens b=4 l=30 v=3 clusters=1 specials=1 rate=1 scheme=slm exclude=true",
    "corrupt_tokens b=5 l=20 f=2 v=50 clusters=5 groups=words rate=0.5 capacity=4",
)

# What benchmarks/gpu.py times: batches of text.
TIMED = (
    "corrupt_tokens b=32 l=512 v=30522",
    "corrupt_tokens b=256 l=512 v=30522",
    "corrupt_tokens b=4096 l=512 v=30522",
    "corrupt_tokens b=256 l=512 v=30522 groups=words",
    "corrupt_tokens b=256 l=512 v=30522 scheme=rts clusters=100",
    "row_uniform b=100000",
)
