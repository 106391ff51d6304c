"""Problem lines of patch_mask, gather_visible and scatter_visible."""

from typing import Any

import torch
from torch import Tensor

from sslkernels.masking.patches.arguments import plan


def patch_mask(
    *,
    b: int,
    h: int,
    w: int,
    t: int = 0,
    ratio: float = 0.75,
    kind: str = "random",
    views: int = 1,
    coverage: float | None = None,
    tile: int = 1,
    wide: int = 0,
    low: float = 0.3,
    high: float = 3.33,
    seed: int = 7,
    device: str = "cpu",
) -> dict[str, Any]:
    """b samples of h x w cells, of t frames where there are any; tile x wide (tile) cells are hidden
    together; a coverage makes the views disjoint.
    """
    generator = torch.Generator().manual_seed(seed)
    grid, disjoint = (t, h, w) if t else (h, w), coverage is not None
    share = 1.0 if coverage is None else coverage
    made = plan(grid, ratio, kind, views, disjoint, share, (tile, wide or tile), (low, high))
    samples = torch.randint(-(2**63), 2**63 - 1, (b,), generator=generator)
    return {
        "sample_ids": samples.to(device),
        **made._asdict(),
        "views": views,
        "block": kind == "block",
        "seed": seed * 2**40 + 1,
        "step": 3,
    }


def _index(shape: tuple[int, ...], limit: int, repeats: bool, generator: torch.Generator) -> Tensor:
    """Places below `limit`: drawn freely, or the first of a permutation each."""
    if repeats or limit == 0:
        return torch.randint(0, max(limit, 1), shape, generator=generator)
    return torch.rand((*shape[:-1], limit), generator=generator).argsort(-1)[..., : shape[-1]].clone()


def gather_visible(
    *,
    b: int,
    n: int,
    k: int,
    d: int,
    views: int = 0,
    repeats: bool = False,
    ids: str = "int64",
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    seed: int = 0,
) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(b, n, d, generator=generator, dtype=torch.float64)
    keep = _index((b, views, k) if views else (b, k), n, repeats, generator)
    return {"x": x.to(device, dtype), "keep": keep.to(device, getattr(torch, ids)), "cells": n}


def gather_visible_backward(
    *,
    b: int,
    n: int,
    k: int,
    d: int,
    repeats: bool = False,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> dict[str, Any]:
    made = gather_visible(b=b, n=n, k=k, d=d, repeats=repeats, dtype=dtype, device=device)
    generator = torch.Generator().manual_seed(1)
    grad = torch.randn((*made["keep"].shape, d), generator=generator, dtype=torch.float64)
    return {
        "grad_visible": grad.to(device, dtype),
        "keep": made["keep"],
        "cells": made["cells"],
        "needs": [True],
    }


def scatter_visible(
    *,
    r: int,
    n: int,
    k: int,
    d: int,
    repeats: bool = False,
    ids: str = "int64",
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    seed: int = 0,
) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    visible = torch.randn(r, k, d, generator=generator, dtype=torch.float64)
    fill = torch.randn(d, generator=generator, dtype=torch.float64)
    restore = _index((r, n), n, repeats, generator)
    return {
        "visible": visible.to(device, dtype),
        "restore": restore.to(device, getattr(torch, ids)),
        "fill": fill.to(device, dtype),
        "kept": k,
    }


def scatter_visible_backward(
    *,
    r: int,
    n: int,
    k: int,
    d: int,
    repeats: bool = False,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> dict[str, Any]:
    made = scatter_visible(r=r, n=n, k=k, d=d, repeats=repeats, dtype=dtype, device=device)
    generator = torch.Generator().manual_seed(1)
    grad = torch.randn(r, n, d, generator=generator, dtype=torch.float64)
    return {
        "grad_out": grad.to(device, dtype),
        "restore": made["restore"],
        "kept": k,
        "needs": [True, True],
    }


LINES = (
    "patch_mask b=5 h=14 w=14",
    "patch_mask b=3 h=1 w=9 ratio=0.5",
    "patch_mask b=3 h=7 w=1 ratio=0.9 kind=block",
    "patch_mask b=2 h=33 w=19 views=3 ratio=0.29",
    "patch_mask b=2 h=6 w=5 ratio=0",
    "patch_mask b=2 h=6 w=5 ratio=1 kind=block",
    "patch_mask b=0 h=4 w=4 kind=block",
    "patch_mask b=3 h=0 w=8 kind=block",
    "patch_mask b=4 h=8 w=8 ratio=0.5 views=3 coverage=0.9",
    "patch_mask b=3 h=6 w=7 ratio=0.4 views=4 coverage=0.2",
    "patch_mask b=2 h=6 w=4 t=3 ratio=0.9 views=2",
    "patch_mask b=3 h=12 w=8 tile=2 wide=4 ratio=0.5",
    "patch_mask b=6 h=14 w=14 ratio=0.4 kind=block",
    "patch_mask b=4 h=16 w=4 ratio=0.9 kind=block low=1 high=1",
    "patch_mask b=2 h=5 w=130 ratio=0.6 kind=block views=2 low=0.01 high=0.5",
    "patch_mask b=2 h=9 w=11 ratio=0.3 kind=block views=4 coverage=1",
    "patch_mask b=2 h=8 w=12 t=2 tile=4 wide=2 ratio=0.5 kind=block low=1e-9 high=1e9",
    "gather_visible b=1 n=4 k=3 d=2",
    "gather_visible b=2 n=3 k=2 d=2 views=2 repeats=true ids=int32",
    "gather_visible b=2 n=9 k=4 d=33 views=3 dtype=fp32",
    "gather_visible b=2 n=6 k=21 d=5 repeats=true dtype=bf16",
    "gather_visible b=40 n=9 k=6 d=3 views=2 repeats=true dtype=fp32",
    "gather_visible b=1 n=4 k=3 d=300 views=4 dtype=fp16",
    "gather_visible b=2 n=5 k=0 d=4 dtype=fp32",
    "gather_visible b=0 n=5 k=3 d=4 dtype=fp32",
    "gather_visible b=2 n=5 k=3 d=0 dtype=fp32",
    "gather_visible_backward b=3 n=14 k=5 d=7 dtype=fp32",
    "gather_visible_backward b=2 n=6 k=21 d=5 repeats=true dtype=bf16",
    "scatter_visible r=2 n=5 k=3 d=2",
    "scatter_visible r=2 n=5 k=3 d=2 repeats=true ids=int32",
    "scatter_visible r=2 n=17 k=6 d=300 repeats=true dtype=bf16",
    "scatter_visible r=3 n=90 k=20 d=70 dtype=fp32",
    "scatter_visible r=40 n=9 k=4 d=3 dtype=fp32",
    "scatter_visible r=2 n=5 k=0 d=4 dtype=fp32",
    "scatter_visible r=2 n=5 k=5 d=4 dtype=fp32",
    "scatter_visible r=0 n=5 k=2 d=4 dtype=fp32",
    "scatter_visible r=2 n=0 k=0 d=4 dtype=fp32",
    "scatter_visible_backward r=3 n=14 k=5 d=7 dtype=fp32",
    "scatter_visible_backward r=20 n=8 k=3 d=5 repeats=true dtype=fp16",
)

# What benchmarks/gpu.py times: images of 14 x 14 patches.
TIMED = (
    "patch_mask b=256 h=14 w=14",
    "patch_mask b=4096 h=14 w=14",
    "patch_mask b=256 h=14 w=14 ratio=0.4 kind=block",
    "patch_mask b=4096 h=14 w=14 ratio=0.4 kind=block",
    "gather_visible b=256 n=196 k=49 d=768 dtype=fp32",
    "gather_visible b=1024 n=196 k=49 d=768 dtype=bf16",
    "scatter_visible r=256 n=196 k=49 d=768 dtype=fp32",
    "scatter_visible r=1024 n=196 k=49 d=768 dtype=bf16",
)
