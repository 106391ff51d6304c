"""mask_rate: how much of a row is masked, as a function of a number drawn for it."""

import torch
from torch import Tensor

from sslkernels._scalars import as_float

SCHEDULES = ("linear", "cosine", "polynomial", "fixed")


def mask_rate(
    u: Tensor, schedule: str = "linear", *, power: float = 1.0, low: float = 0.0, high: float = 1.0
) -> Tensor:
    """The share that is masked: low + (high - low) * f(u), for `corrupt_tokens(rate=...)`.

    u         any shape, floating, in [0, 1]: see row_uniform
    schedule  f(u): "linear" 1 - u; "polynomial" 1 - u^power; "cosine" (1 + cos(pi u)) / 2; "fixed" 1

    Raises ValueError for an unknown schedule, a power that is not positive, or low and high outside
    0 <= low <= high <= 1. Sources: MaskGIT (Chang et al., CVPR 2022), section 3.3; GraphGPT (Zhao et al.,
    2024) for the polynomial.
    """
    if not isinstance(u, Tensor):
        raise TypeError(f"u must be a tensor, got {type(u).__name__}")
    if not u.is_floating_point():
        raise ValueError(f"u must be a float tensor, got {str(u.dtype).removeprefix('torch.')}")
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {schedule!r}")
    if not torch.compiler.is_compiling():  # a traced number stays a symbol
        for name, value in (("power", power), ("low", low), ("high", high)):
            as_float(name, value)
    if not power > 0:
        raise ValueError(f"power must be positive, got {power}")
    if not 0 <= low <= high <= 1:
        raise ValueError(f"low and high must satisfy 0 <= low <= high <= 1, got {low} and {high}")
    if schedule == "linear":
        share = 1 - u
    elif schedule == "polynomial":
        share = 1 - u**power
    elif schedule == "cosine":
        share = (1 + torch.cos(torch.pi * u)) / 2
    else:
        share = torch.ones_like(u)
    # Rounding must not carry a share past the ends: rates outside [0, 1] are refused.
    return (low + (high - low) * share).clamp(low, high)
