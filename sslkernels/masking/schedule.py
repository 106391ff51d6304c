"""How much of a row is masked: schedules of the masked share, and the uniform number each row puts in."""

import torch
from torch import Tensor

from sslkernels._random import PURPOSE, draw, philox4x32, require_seed
from sslkernels.masking.tokens.arguments import integer

_SCHEDULES = ("linear", "cosine", "polynomial", "fixed")


def row_uniform(
    batch: int, *, seed: int | None = None, step: int = 0, sample_ids: Tensor | None = None
) -> Tensor:
    """A number in [0, 1) for each row: float32 (batch,), the upper 24 bits of one Philox word a row.

    sample_ids int64 (batch,), default 0..batch-1. ValueError without a seed; for wrong shapes.
    """
    seed = require_seed("row_uniform", seed, step)
    integer("batch", batch, 0)
    if sample_ids is None:
        sample_ids = torch.arange(batch)
    if sample_ids.shape != (batch,) or sample_ids.dtype != torch.int64:
        raise ValueError(
            f"sample_ids must be int64 ({batch},), got {sample_ids.dtype} {tuple(sample_ids.shape)}"
        )
    low, high, zero = (torch.full_like(sample_ids, word) for word in (step & 0xFFFFFFFF, step >> 32, 0))
    # stream_key as tensors: its plain numbers would break a compiled graph
    key = philox4x32((seed & 0xFFFFFFFF, seed >> 32), (low, high, zero, zero))[:2]
    word = draw(key, sample_ids, PURPOSE.row_uniform, zero)[0]  # type: ignore[arg-type]
    return (word >> 8).to(torch.float32) / 2**24


def mask_rate(
    u: Tensor, schedule: str = "linear", *, power: float = 1.0, low: float = 0.0, high: float = 1.0
) -> Tensor:
    """The share that is masked, like u: low + (high - low) * f(u), for u in [0, 1].

    f(u): linear 1 - u; polynomial 1 - u^power; cosine (1 + cos(pi u)) / 2; fixed 1. Falls from `high` at 0
    to `low` at 1 (MaskGIT, Chang et al., CVPR 2022, section 3.1; GraphGPT, Zhao et al., section 3.3).

    ValueError: an unknown schedule, a share outside [0, 1], low above high, a power that is not positive.
    """
    if not isinstance(u, Tensor) or not u.is_floating_point():
        raise TypeError(f"u must be a float tensor, got {getattr(u, 'dtype', type(u).__name__)}")
    if not 0 <= low <= high <= 1:
        raise ValueError(f"low and high must satisfy 0 <= low <= high <= 1, got {low} and {high}")
    if not power > 0:
        raise ValueError(f"power must be above 0, got {power}")
    if schedule == "linear":
        share = 1 - u
    elif schedule == "polynomial":
        share = 1 - u**power
    elif schedule == "cosine":
        share = (1 + torch.cos(torch.pi * u)) / 2
    elif schedule == "fixed":
        share = torch.ones_like(u)
    else:
        raise ValueError(f"schedule must be one of {', '.join(_SCHEDULES)}, got {schedule!r}")
    return low + (high - low) * share
