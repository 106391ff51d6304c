"""patch_mask, and the selection of patches by what it returns: gather_visible, scatter_visible."""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sslkernels import _random
from sslkernels._op import Op
from sslkernels._scalars import as_int
from sslkernels.masking.patches import arguments, checks, reference
from sslkernels.masking.results import PatchMask

_mask = Op(
    "patch_mask(Tensor sample_ids, SymInt frames, SymInt rows, SymInt columns, SymInt tile_rows, "
    "SymInt tile_columns, SymInt views, SymInt masked, SymInt covered, bool block, SymInt least, SymInt low, "
    "SymInt high, SymInt seed, SymInt step) -> (Tensor mask, Tensor keep, Tensor restore)",
    shapes="sample_ids: B int64",
    reference=reference.patch_mask,
    fake=reference.fake_mask,
    check=checks.check_mask,
    triton=True,
    exceptions={"triton": "grids of at most 2^20 tiles"},
)

_gather_backward = Op(
    "gather_visible_backward(Tensor grad_visible, Tensor keep, SymInt cells, bool[] needs) -> Tensor grad_x",
    shapes="grad_visible: B K D|B V K D; keep: B K|B V K int",
    reference=reference.gather_visible_backward,
    fake=reference.fake_gather_backward,
    check=checks.check_gather_backward,
    triton=True,
)
_gather = Op(
    "gather_visible(Tensor x, Tensor keep, SymInt cells) -> Tensor visible",
    shapes="x: B N D; keep: B K|B V K int",
    reference=reference.gather_visible,
    fake=reference.fake_gather,
    check=checks.check_gather,
    backward=_gather_backward,
    gradients=("x",),
    triton=True,
)

# Views are rows of their own here: R = B * V.
_scatter_backward = Op(
    "scatter_visible_backward(Tensor grad_out, Tensor restore, SymInt kept, bool[] needs) -> "
    "(Tensor? grad_visible, Tensor? grad_fill)",
    shapes="grad_out: R N D; restore: R N int",
    reference=reference.scatter_visible_backward,
    fake=reference.fake_scatter_backward,
    check=checks.check_scatter_backward,
    triton=True,
)
_scatter = Op(
    "scatter_visible(Tensor visible, Tensor restore, Tensor fill, SymInt kept) -> Tensor out",
    shapes="visible: R K D; restore: R N int; fill: D",
    reference=reference.scatter_visible,
    fake=reference.fake_scatter,
    check=checks.check_scatter,
    backward=_scatter_backward,
    gradients=("visible", "fill"),
    triton=True,
)

_plan_seen = functools.lru_cache(maxsize=64, typed=True)(arguments.plan)


def patch_mask(
    batch: int,
    grid: Sequence[int],
    ratio: float,
    *,
    kind: str = "random",
    views: int = 1,
    disjoint: bool = False,
    coverage: float = 1.0,
    patch_block: Sequence[int] = (1, 1),
    aspect: Sequence[float] = (0.3, 3.33),
    device: torch.device | str | None = None,
    seed: int | None = None,
    step: int = 0,
    sample_ids: Tensor | None = None,
) -> PatchMask:
    """Hide exactly round(ratio * N) of a grid's N patches, for V views of each of B samples.

    batch        B; the mask of a row is a function of (seed, step, its sample id) alone
    grid         (H, W); or (T, H, W): one mask over H x W, repeated for all T frames (tube masking), so that
                 T * round(ratio * H * W) of T * H * W are hidden
    ratio        in [0, 1]; the product is rounded in double precision, halves to even
    kind         "random": any patches, each set as likely as any other (MAE)
                 "block": rectangles, each around a patch that is still visible, its area uniform between 16
                 cells and what is left to hide, its aspect (height over width) log-uniform between the ends
                 of `aspect`; a side is cut to the grid's, and the last rectangle to the count, from a
                 random side (after BEiT; the count is exact and every grid ends)
    views        V; independent, or with `disjoint` a later view hides patches that the earlier ones show
                 until round(coverage * N) are hidden in some view, and takes the rest from those
                 hidden already (DMJD)
    patch_block  (h, w) cells that are hidden together, aligned to the grid; they must divide its sides, and
                 their size must divide the counts
    device       of the results: else that of sample_ids, else the CPU
    seed, step   in [0, 2^63); needed where anything is drawn (a ratio of 0 or 1 draws nothing)
    sample_ids   int64 (B,), any 64 bits; by default 0 .. B-1

    Returns PatchMask(mask bool (B, V, N), keep int64 (B, V, K) ascending, restore int64 (B, V, N)).
    ValueError or TypeError names the argument that is wrong. Cost: the results, written once.

    Sources: MAE (He et al., CVPR 2022), section 3 and its code's `ids_restore`; BEiT (Bao et al., ICLR 2022),
    algorithm 1; VideoMAE (Tong et al., NeurIPS 2022), section 3.3; DMJD (Ma et al., 2022), section 3.2.
    """
    given = (grid, ratio, kind, views, disjoint, coverage, patch_block, aspect)
    plan = arguments.plan(*given) if torch.compiler.is_compiling() else _plan_once(*given)
    if seed is not None or 0 < plan.masked < plan.rows * plan.columns:
        seed = _random.require_seed("patch_mask", seed, step)
    as_int("batch", batch, 0)
    return PatchMask(
        *_mask(
            _samples(batch, sample_ids, _device(device)),
            *(plan.frames, plan.rows, plan.columns, plan.tile_rows, plan.tile_columns, views, plan.masked),
            *(plan.covered, kind == "block", plan.least, plan.low, plan.high, 0 if seed is None else seed),
            step,
        )
    )


def _plan_once(grid: Any, ratio: Any, kind: Any, views: Any, disjoint: Any, *rest: Any) -> arguments.Plan:
    """The plan, looked up where the same arguments were checked before."""
    try:
        return _plan_seen(grid, ratio, kind, views, disjoint, *rest)
    except TypeError:  # what cannot be hashed, or a wrong type, which is then named
        return arguments.plan(grid, ratio, kind, views, disjoint, *rest)


def _samples(batch: int, sample_ids: Tensor | None, device: torch.device | None) -> Tensor:
    if sample_ids is None:
        return torch.arange(batch, device="cpu" if device is None else device)  # whatever the default device
    if not isinstance(sample_ids, Tensor):
        raise TypeError(f"sample_ids must be a Tensor, got {type(sample_ids).__name__}")
    if sample_ids.shape != (batch,):
        raise ValueError(f"sample_ids must have shape (B={batch},), got {tuple(sample_ids.shape)}")
    return sample_ids if device is None else sample_ids.to(device)


def _device(value: Any) -> torch.device | None:
    try:
        return None if value is None else torch.device(value)
    except (RuntimeError, TypeError):
        raise ValueError(f"device must name a device, got {value!r}") from None


def gather_visible(x: Tensor, keep: Tensor) -> Tensor:
    """The patches that an encoder sees: (B, K, D) or (B, V, K, D).

    x      (B, N, D), fp32, fp64, fp16 or bf16
    keep   int32 or int64 (B, K) or (B, V, K) in [0, N): any order, repeats allowed

    Selects, never multiplies: what is hidden does not show, NaN included, and its gradient is exactly 0. The
    gradient of a patch is the sum over its places in `keep`, in their order, in 32 bits for 16-bit inputs.
    Differentiable once. ValueError names shapes, dtypes and an index out of range (on CUDA those are skipped,
    and give zeros, unless SSLKERNELS_CHECK=1). Cost: what is kept, read and written once.

    Source: MAE (He et al., CVPR 2022), section 3, "MAE encoder".
    """
    if not isinstance(x, Tensor) or x.dim() != 3:
        return _gather(x, keep, 0)  # refused there
    return _gather(x, keep, x.shape[1])


def scatter_visible(visible: Tensor, restore: Tensor, fill: Tensor) -> Tensor:
    """Visible patches back in the grid's order with `fill` at the hidden ones: (B, N, D) or (B, V, N, D).

    visible  (B, K, D) or (B, V, K, D), fp32, fp64, fp16 or bf16; K <= N
    restore  int32 or int64 (B, N) or (B, V, N) in [0, N): where each patch stands in cat(visible, hidden)
    fill     (D,): the mask token

    Selects, never multiplies. The gradient of a visible patch is the sum over its places in `restore`, that
    of `fill` the sum over the hidden patches, in a fixed order and in 32 bits for 16-bit inputs.
    Differentiable once. ValueError names shapes, dtypes and an index out of range (on CUDA those give `fill`
    unless SSLKERNELS_CHECK=1); its message counts the views of a batch one after another. Cost: visible is
    read and the result written once; the backward reads one tensor of the result's size.

    Source: MAE (He et al., CVPR 2022), section 3, "MAE decoder".
    """
    _require_rows(visible, restore)
    if visible.dim() == 3:
        return _scatter(visible, restore, fill, visible.shape[1])
    batch, views, kept, width = visible.shape
    out = _scatter(
        visible.reshape(batch * views, kept, width),
        restore.reshape(batch * views, restore.shape[2]),
        fill,
        kept,
    )
    return out.reshape(batch, views, restore.shape[2], width)


def _require_rows(visible: Tensor, restore: Tensor) -> None:
    """Both have views or neither has, and all of one are in the other."""
    for name, value in (("visible", visible), ("restore", restore)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must be a Tensor, got {type(value).__name__}")
    if visible.dim() not in (3, 4):
        raise ValueError(f"visible must have shape (B, K, D) or (B, V, K, D), got {tuple(visible.shape)}")
    if restore.dim() != visible.dim() - 1 or restore.shape[:-1] != visible.shape[:-2]:
        allowed = ", ".join(map(str, visible.shape[:-2]))
        raise ValueError(f"restore must have shape ({allowed}, N), got {tuple(restore.shape)}")
    if torch.compiler.is_compiling():
        return  # the kernel compares the numbers of patches, so that export may leave both open
    if visible.shape[-2] > restore.shape[-1]:
        raise ValueError(f"visible must have at most N={restore.shape[-1]} patches, got {visible.shape[-2]}")
