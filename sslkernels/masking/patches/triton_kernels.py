"""patch_mask, gather_visible and scatter_visible on GPUs.

A mask takes two kernels: one hides tiles, a program a view, and one lays them out as cells. Rows are copied
as they are; their gradients are summed in the order of a stable sort, so that nothing is added atomically.
"""

from collections.abc import Iterator
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from sslkernels._random import signed_key
from sslkernels._shapes import values_are_checked
from sslkernels.masking.patches import checks
from sslkernels.masking.patches.triton_programs import (
    copy_kernel,
    hidden_kernel,
    hide_kernel,
    layout_kernel,
    sum_kernel,
)

_WIDEST = 1024
_MOST_TILES = 1 << 20  # a program holds a grid in one block
_ROWS = 64  # whose hidden gradients one program adds up


def patch_mask(
    sample_ids: Tensor,
    frames: int,
    rows: int,
    columns: int,
    tile_rows: int,
    tile_columns: int,
    views: int,
    masked: int,
    covered: int,
    block: bool,
    least: int,
    low: int,
    high: int,
    seed: int,
    step: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The operator; its limits are checked always, they are plain numbers."""
    given = (frames, rows, columns, tile_rows, tile_columns, views, masked, covered, block, least, low, high)
    checks.check_mask(sample_ids, *given, seed, step)
    if rows * columns > _MOST_TILES:
        raise ValueError(f"rows x columns must be at most 2^20 tiles here, got {rows} x {columns}")
    tiles, tile = rows * columns, frames * tile_rows * tile_columns
    shape, cells, kept = (sample_ids.shape[0], views), tiles * tile, (tiles - masked) * tile
    sample_ids = sample_ids.contiguous()
    hidden = sample_ids.new_empty((*shape, tiles), dtype=torch.bool)
    mask = sample_ids.new_empty((*shape, cells), dtype=torch.bool)
    keep, restore = sample_ids.new_empty((*shape, kept)), sample_ids.new_empty((*shape, cells))
    if restore.numel() == 0:
        return mask, keep, restore
    disjoint = covered >= 0
    hide_kernel[(shape[0], 1 if disjoint else views)](
        *(sample_ids, hidden, rows, columns, views, masked, covered, least, low, high),
        *signed_key(seed, step),
        RECTANGLES=block,
        DISJOINT=disjoint,
        BLOCK=triton.next_power_of_2(tiles),
    )
    layout_kernel[(shape[0] * views,)](
        *(hidden, mask, keep, restore, frames, rows, columns, tile_rows, tile_columns, kept),
        BLOCK=min(_WIDEST, triton.next_power_of_2(cells)),
    )
    return mask, keep, restore


def _block(width: int) -> int:
    return min(_WIDEST, triton.next_power_of_2(width))


def _copy_rows(source: Tensor, index: Tensor, fill: Tensor | None) -> Tensor:
    source, index = source.contiguous(), index.contiguous()
    _, limit, width = source.shape
    out = source.new_empty((*index.shape, width))
    if out.numel():
        grid = (index.numel(), triton.cdiv(width, _block(width)))
        entries = index.numel() // index.shape[0]
        copy_kernel[grid](source, index, fill, out, entries, limit, width, BLOCK=_block(width))
    return out


def _accumulate(dtype: torch.dtype) -> Any:
    return tl.float64 if dtype == torch.float64 else tl.float32


def _sum_by_index(grad: Tensor, index: Tensor, limit: int) -> Tensor:
    """(R, M, D), (R, M) -> (R, limit, D): sums of the rows of one index, in order; those outside are none."""
    grad, rows, width = grad.contiguous(), index.shape[0], grad.shape[2]
    out = grad.new_empty((rows, limit, width))
    if out.numel() == 0:
        return out
    own = torch.arange(rows, device=index.device)[:, None] * limit
    known = (index >= 0) & (index < limit)
    place, order = torch.sort(torch.where(known, own + index, rows * limit).reshape(-1), stable=True)
    ends = torch.searchsorted(place, torch.arange(rows * limit + 1, device=index.device))
    sum_kernel[(rows * limit, triton.cdiv(width, _block(width)))](
        grad, order, ends, out, width, BLOCK=_block(width), ACCUMULATE=_accumulate(grad.dtype)
    )
    return out


def gather_visible(x: Tensor, keep: Tensor, cells: int) -> Tensor:
    """The operator; on a GPU an index out of range gives zeros, unless SSLKERNELS_CHECK=1."""
    if values_are_checked(x):
        checks.check_gather(x, keep, cells)
    return _copy_rows(x, keep, None)


def gather_visible_backward(grad_visible: Tensor, keep: Tensor, cells: int, needs: list[bool]) -> Tensor:
    if values_are_checked(keep):
        checks.check_gather_backward(grad_visible, keep, cells, needs)
    entries = keep[0].numel() if len(keep) else 0
    shape = (keep.shape[0], entries)
    return _sum_by_index(grad_visible.reshape(*shape, grad_visible.shape[-1]), keep.reshape(shape), cells)


def scatter_visible(visible: Tensor, restore: Tensor, fill: Tensor, kept: int) -> Tensor:
    """The operator; on a GPU an index out of range gives `fill`, unless SSLKERNELS_CHECK=1."""
    if values_are_checked(visible):
        checks.check_scatter(visible, restore, fill, kept)
    return _copy_rows(visible, restore, fill.contiguous())


def scatter_visible_backward(
    grad_out: Tensor, restore: Tensor, kept: int, needs: list[bool]
) -> tuple[Tensor | None, Tensor | None]:
    if values_are_checked(restore):
        checks.check_scatter_backward(grad_out, restore, kept, needs)
    grad_out, restore = grad_out.contiguous(), restore.contiguous()
    grad_visible = _sum_by_index(grad_out, restore, kept) if needs[0] else None
    if not needs[1]:
        return grad_visible, None
    total, width = restore.numel(), grad_out.shape[2]
    exact = torch.float64 if grad_out.dtype == torch.float64 else torch.float32
    parts = grad_out.new_empty((triton.cdiv(total, _ROWS), width), dtype=exact)
    if parts.numel():
        hidden_kernel[(parts.shape[0], triton.cdiv(width, _block(width)))](
            *(grad_out, restore, parts, total, kept, width),
            ROWS=_ROWS,
            BLOCK=_block(width),
            ACCUMULATE=_accumulate(grad_out.dtype),
        )
    return grad_visible, parts.sum(0).to(grad_out.dtype)


def configurations() -> Iterator[tuple[Any, dict[str, Any], dict[str, Any]]]:
    """(kernel, arguments, options) of the launches that the functions above make."""
    sides = dict.fromkeys(("rows", "columns", "views", "masked", "covered", "least", "low", "high"), "i32")
    hide = {"sample_ids": "*i64", "hidden": "*i1", **sides, "key_low": "i32", "key_high": "i32", "BLOCK": 256}
    for rectangles in (False, True):
        for disjoint in (False, True):
            yield hide_kernel, {**hide, "RECTANGLES": rectangles, "DISJOINT": disjoint}, {}
    sizes = ("frames", "rows", "columns", "tile_rows", "tile_columns", "kept")
    layout = {"hidden": "*i1", "mask": "*i1", "keep": "*i64", "restore": "*i64"}
    yield layout_kernel, {**layout, **dict.fromkeys(sizes, "i32"), "BLOCK": 256}, {}
    for dtype, exact in (
        ("fp32", tl.float32),
        ("fp64", tl.float64),
        ("fp16", tl.float32),
        ("bf16", tl.float32),
    ):
        width: dict[str, Any] = {"width": "i32", "BLOCK": 1024}
        rows = {"source": f"*{dtype}", "index": "*i64", "out": f"*{dtype}", "entries": "i32", "limit": "i32"}
        for fill in (None, f"*{dtype}"):
            yield copy_kernel, {**rows, "fill": fill, **width}, {}
        grad = {"grad": f"*{dtype}", "ACCUMULATE": exact, **width}
        yield sum_kernel, {**grad, "order": "*i64", "ends": "*i64", "out": f"*{dtype}"}, {}
        parts = {"index": "*i64", "out": f"*{exact!s}", "total": "i32", "kept": "i32", "ROWS": _ROWS}
        yield hidden_kernel, {**grad, **parts}, {}
