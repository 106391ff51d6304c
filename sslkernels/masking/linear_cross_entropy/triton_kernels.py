"""masked_linear_cross_entropy on GPUs: tiles of logits that live in registers alone.

The scored rows are numbered by one small kernel and read where they stand: nothing is gathered, and the host
never waits for their count, because programs behind it end at once. The backward multiplies the logits again,
for the hidden gradient by a program a block of rows, for the weight's by a program a block of classes. A sum
belongs to one program, or to a number of parts that the shapes alone fix and that are added in order: no
atomics, the same bits at every run.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import triton
from torch import Tensor

from sslkernels._shapes import values_are_checked
from sslkernels.masking.linear_cross_entropy.checks import check_labels
from sslkernels.masking.linear_cross_entropy.triton_programs import (
    compact_kernel,
    hidden_kernel,
    loss_kernel,
    lse_kernel,
    sum_kernel,
    weight_kernel,
)

_PROGRAMS = 528  # as many keep a large GPU busy
_LEAST_BLOCKS = 4  # of a loop that is cut in parts
_SCORED = 8  # one row in so many is taken to be scored where the number of programs is chosen
_PART_BYTES = 16 << 20  # of the parts of a sum

# By bytes of a number: the forward's tile and the backward's; BLOCK_D is the most columns of a gradient.
_FORWARD: dict[int, dict[str, int]] = {
    2: {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 64, "num_warps": 8, "num_stages": 3},
    4: {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 32, "num_warps": 8, "num_stages": 2},
    8: {"BLOCK_M": 32, "BLOCK_N": 32, "BLOCK_K": 16, "num_warps": 4, "num_stages": 2},
}
_BACKWARD: dict[int, dict[str, int]] = {
    2: {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 64, "BLOCK_D": 256, "num_warps": 8, "num_stages": 3},
    4: {"BLOCK_M": 32, "BLOCK_N": 32, "BLOCK_K": 16, "BLOCK_D": 128, "num_warps": 8, "num_stages": 2},
    8: {"BLOCK_M": 32, "BLOCK_N": 32, "BLOCK_K": 16, "BLOCK_D": 64, "num_warps": 8, "num_stages": 2},
}
_COMPACT, _LOSS = {"BLOCK": 1024}, {"BLOCK": 256}
_SUM = {"BLOCK_M": 16, "BLOCK_D": 128}


def _sum_dtype(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def _columns(tile: dict[str, int], width: int) -> dict[str, int]:
    """The tile, its BLOCK_D no wider than the rows are."""
    return {**tile, "BLOCK_D": min(tile["BLOCK_D"], max(16, triton.next_power_of_2(width)))}


def _parts(blocks: int, programs: int, part_bytes: int) -> int:
    """In how many parts a loop over `blocks` is cut, where `programs` run it: a function of shapes alone."""
    wanted = triton.cdiv(_PROGRAMS, max(1, programs))
    return max(1, min(wanted, triton.cdiv(blocks, _LEAST_BLOCKS), _PART_BYTES // max(1, part_bytes)))


def _checked(
    hidden: Tensor, weight: Tensor, labels: Tensor, bias: Tensor | None, ignore_index: int
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """The inputs, contiguous; labels are checked on the CPU, and on a GPU with SSLKERNELS_CHECK=1."""
    if values_are_checked(labels):
        check_labels(hidden, weight, labels, bias, ignore_index)
    given = None if bias is None else bias.contiguous()
    return hidden.contiguous(), weight.contiguous(), labels.contiguous(), given


def _scored_rows(labels: Tensor, classes: int, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Numbers of the scored rows, ascending, and how many they are, on the device."""
    rows = torch.empty(labels.shape, dtype=torch.int64, device=labels.device)
    count = torch.empty((), dtype=torch.int64, device=labels.device)
    compact_kernel[(1,)](labels, rows, count, len(labels), classes, ignore_index, **_COMPACT)
    return rows, count


def masked_linear_cross_entropy(
    hidden: Tensor, weight: Tensor, labels: Tensor, bias: Tensor | None, ignore_index: int
) -> tuple[Tensor, Tensor]:
    """The operator: losses and log-sum-exps."""
    hidden, weight, labels, bias = _checked(hidden, weight, labels, bias, ignore_index)
    (total, width), classes = hidden.shape, weight.shape[0]
    loss = torch.zeros(total, dtype=_sum_dtype(hidden), device=hidden.device)
    lse = torch.zeros_like(loss)
    if total == 0 or classes == 0:
        return loss, lse
    rows, count = _scored_rows(labels, classes, ignore_index)
    tile = _FORWARD[hidden.element_size()]
    row_blocks, blocks = triton.cdiv(total, tile["BLOCK_M"]), triton.cdiv(classes, tile["BLOCK_N"])
    parts = _parts(blocks, row_blocks // _SCORED, 3 * total * lse.element_size())
    each = triton.cdiv(blocks, parts)
    parts = triton.cdiv(blocks, each)
    largest, sums, target = torch.empty((3, parts, total), dtype=lse.dtype, device=lse.device).unbind()
    lse_kernel[(row_blocks, parts)](
        *(hidden, weight, bias, labels, rows, count, largest, sums, target, total, classes, each),
        D=width,
        **tile,
    )
    grid = (triton.cdiv(total, _LOSS["BLOCK"]),)
    loss_kernel[grid](rows, count, largest, sums, target, loss, lse, total, parts, **_LOSS)
    return loss, lse


def masked_linear_cross_entropy_backward(
    grad_loss: Tensor,
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    bias: Tensor | None,
    lse: Tensor,
    ignore_index: int,
    needs: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The operator: gradients of hidden, weight and bias, as far as they are needed."""
    hidden, weight, labels, bias = _checked(hidden, weight, labels, bias, ignore_index)
    upstream, lse = grad_loss.contiguous(), lse.to(_sum_dtype(hidden)).contiguous()
    of_hidden = torch.zeros_like(hidden) if needs[0] else None
    empty = len(labels) == 0 or len(weight) == 0
    blank = torch.zeros_like if empty else torch.empty_like
    of_weight = blank(weight) if needs[1] else None
    of_bias = blank(bias) if needs[2] and bias is not None else None
    if empty:
        return of_hidden, of_weight, of_bias
    rows, count = _scored_rows(labels, len(weight), ignore_index)
    given = (hidden, weight, bias, labels, lse, upstream, rows, count)
    if of_hidden is not None and of_hidden.numel():
        _write_hidden(of_hidden, *given)
    if of_weight is not None or of_bias is not None:
        of_weight, of_bias = _class_gradients(of_weight, of_bias, *given)
    return of_hidden, of_weight, of_bias


def _write_hidden(
    out: Tensor,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    lse: Tensor,
    upstream: Tensor,
    rows: Tensor,
    count: Tensor,
) -> None:
    (total, width), classes = hidden.shape, weight.shape[0]
    tile = _columns(_BACKWARD[hidden.element_size()], width)
    row_blocks, blocks = triton.cdiv(total, tile["BLOCK_M"]), triton.cdiv(classes, tile["BLOCK_N"])
    column_blocks = triton.cdiv(width, tile["BLOCK_D"])
    parts = _parts(blocks, row_blocks // _SCORED * column_blocks, total * width * lse.element_size())
    each = triton.cdiv(blocks, parts)
    parts = triton.cdiv(blocks, each)
    sums = out if parts == 1 else torch.empty((parts, total, width), dtype=lse.dtype, device=out.device)
    hidden_kernel[(row_blocks, column_blocks, parts)](
        *(hidden, weight, bias, labels, lse, upstream, rows, count, sums, total, classes, each),
        D=width,
        PARTS=parts > 1,
        **tile,
    )
    if parts > 1:
        grid = (triton.cdiv(total, _SUM["BLOCK_M"]), triton.cdiv(width, _SUM["BLOCK_D"]))
        sum_kernel[grid](sums, upstream, rows, count, out, total, parts, D=width, **_SUM)


def _class_gradients(
    of_weight: Tensor | None,
    of_bias: Tensor | None,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    lse: Tensor,
    upstream: Tensor,
    rows: Tensor,
    count: Tensor,
) -> tuple[Tensor | None, Tensor | None]:
    (total, width), classes = hidden.shape, weight.shape[0]
    tile = _columns(_BACKWARD[hidden.element_size()], width)
    column_blocks = max(1, triton.cdiv(width, tile["BLOCK_D"])) if of_weight is not None else 1
    blocks = triton.cdiv(classes, tile["BLOCK_N"])
    row_blocks = triton.cdiv(total, tile["BLOCK_M"])
    parts = _parts(row_blocks, blocks * column_blocks, classes * max(1, width) * lse.element_size())
    sums = [
        x if x is None or parts == 1 else torch.empty((parts, *x.shape), dtype=lse.dtype, device=x.device)
        for x in (of_weight, of_bias)
    ]
    weight_kernel[(blocks, column_blocks, parts)](
        *(hidden, weight, bias, labels, lse, upstream, rows, count, *sums, classes, parts), D=width, **tile
    )
    if parts == 1:
        return of_weight, of_bias
    found = [None if x is None else x.sum(0).to(hidden.dtype) for x in sums]
    return found[0], found[1]


def configurations() -> Iterator[tuple[Any, dict[str, Any], dict[str, Any]]]:
    """(kernel, arguments, options) of the launches that the functions above make."""
    ids = {"labels": "*i64", "rows": "*i64", "count": "*i64"}
    yield compact_kernel, {**ids, "total": "i32", "classes": "i32", "ignore_index": "i32", **_COMPACT}, {}
    sizes = {"fp16": 2, "bf16": 2, "fp32": 4, "fp64": 8}
    for dtype, width in (("bf16", 256), ("bf16", 768), ("fp16", 256), ("fp32", 256), ("fp64", 256)):
        sums = "fp64" if dtype == "fp64" else "fp32"
        inputs = {"hidden": f"*{dtype}", "weight": f"*{dtype}", "bias": f"*{dtype}", **ids, "D": width}
        numbers = dict.fromkeys(("total", "classes", "blocks", "parts"), "i32")
        states = {"lse": f"*{sums}", "upstream": f"*{sums}", "loss": f"*{sums}", "sums_of": f"*{sums}"}
        outputs = dict.fromkeys(("largest_of", "sum_of", "target_of"), f"*{sums}")
        known = {**inputs, **numbers, **states, **outputs}
        backward = _columns(_BACKWARD[sizes[dtype]], width)
        gradients = {"out": f"*{dtype}", "weight_out": f"*{dtype}", "bias_out": f"*{dtype}"}
        yield _configuration(lse_kernel, known, _FORWARD[sizes[dtype]])
        yield _configuration(hidden_kernel, {**known, **gradients, "PARTS": False}, backward)
        yield _configuration(weight_kernel, {**known, **gradients}, backward)
        if width == 256 and dtype in ("bf16", "fp64"):
            yield _configuration(loss_kernel, known, _LOSS)
            yield _configuration(sum_kernel, {**known, **gradients}, _SUM)
            parts = {"out": f"*{sums}", "weight_out": f"*{sums}", "bias_out": f"*{sums}"}
            yield _configuration(hidden_kernel, {**known, **parts, "PARTS": True}, backward)
            yield _configuration(weight_kernel, {**known, **parts}, backward)


def _configuration(
    kernel: Any, known: dict[str, Any], tile: dict[str, int]
) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    options = {name: value for name, value in tile.items() if name.startswith("num_")}
    given = {**known, **tile}
    return kernel, {parameter.name: given[parameter.name] for parameter in kernel.params}, options
