"""sample_tokens on GPUs: a kernel over tiles of blocks leaves two numbers a block, another draws from them.

See csrc/masking/sampling/core.h for the two draws of a row. A row that cannot be drawn from gives -1.
"""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: N803

from collections.abc import Iterator
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from sslkernels._random import PURPOSE, signed_key
from sslkernels._shapes import values_are_checked
from sslkernels.masking.philox_triton import draw
from sslkernels.masking.sampling.checks import check

_PURPOSE = tl.constexpr(PURPOSE.sample_token)
_NONE = tl.constexpr(float("-inf"))
_BLOCK = 256  # columns; frozen: another size draws other tokens
_TILE = 8  # blocks of a program
_CHUNK = 256  # block numbers that the second kernel reads at once


# -- stages --------------------------------------------------------------------------------------------------


@triton.jit
def _weights(x, largest, temperature):
    """exp((x - largest) / temperature), at temperature 0 whether x is the largest. NaN stays NaN.

    Halves, because the difference of two large logits must not overflow; the rate is finite and above 0.
    """
    rate = 2.0 / tl.where(temperature == 0, 1.0, temperature)
    if x.dtype == tl.float64:
        rate = tl.minimum(tl.maximum(rate, 2.2250738585072014e-308), 1.7976931348623157e308)
    else:
        rate = tl.minimum(tl.maximum(rate, 1.1754943508222875e-38), 3.4028234663852886e38).to(tl.float32)
    shift = tl.where(largest == _NONE, 0.0, largest)
    scaled = (x * 0.5 - shift * 0.5) * rate
    chosen = tl.where(x == largest, 1.0, tl.where(x != x, x, 0.0))
    return tl.where(temperature == 0, chosen, tl.exp(scaled))


@triton.jit
def _load(logits, allowed, row, column, columns, row_stride, allowed_stride):
    """Logits in 32 bits or more, -inf where forbidden or past the row's end."""
    mask = column < columns
    x = tl.load(logits + row * row_stride + column, mask=mask, other=_NONE)
    if x.dtype != tl.float64:
        x = x.to(tl.float32)
    if allowed is not None:
        flags = tl.load(allowed + row * allowed_stride + column, mask=mask, other=0)
        x = tl.where(flags != 0, x, _NONE)
    return x


@triton.jit
def _unit(low, high):
    """A number in [0, 1) of 53 bits."""
    return (high.to(tl.int64) * 2097152 + (low >> 11).to(tl.int64)).to(tl.float64) * 1.1102230246251565e-16


# -- kernels -------------------------------------------------------------------------------------------------


@triton.jit
def weigh_kernel(
    logits,
    allowed,
    temperatures,
    largest,
    sums,
    columns,
    blocks,
    row_stride,
    allowed_stride,
    temperature_stride,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The largest logit of each of TILE blocks, and the sum of its weights relative to that."""
    row = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1).to(tl.int64) * TILE + tl.arange(0, TILE)
    column = block[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
    x = _load(logits, allowed, row, column, columns, row_stride, allowed_stride)
    temperature = tl.load(temperatures + row * temperature_stride)
    most = tl.max(x, axis=1)
    total = tl.sum(_weights(x, most[:, None], temperature), axis=1)
    at = row * blocks + block
    tl.store(largest + at, most, mask=block < blocks)
    tl.store(sums + at, total, mask=block < blocks)


@triton.jit(do_not_specialize=["key_low", "key_high"])
def draw_kernel(
    logits,
    allowed,
    temperatures,
    sample_ids,
    largest,
    sums,
    tokens,
    columns,
    blocks,
    row_stride,
    allowed_stride,
    temperature_stride,
    key_low,
    key_high,
    CHUNK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Draw a block of a row, then a column of the block: the first at which the running sum passes u times
    the total and whose weight is not 0 (sums are rounded; the last such where none is).
    """
    row = tl.program_id(0).to(tl.int64)
    temperature = tl.load(temperatures + row * temperature_stride)
    sample = row if sample_ids is None else tl.load(sample_ids + row)
    w0, w1, w2, w3 = draw(tl.zeros([1], tl.int64), _PURPOSE, sample, key_low, key_high)
    u_block = tl.where(temperature == 0, 0.0, tl.sum(_unit(w0, w1), 0))
    u_column = tl.where(temperature == 0, 0.0, tl.sum(_unit(w2, w3), 0))

    top = tl.max(tl.full([CHUNK], _NONE, largest.dtype.element_ty), 0)
    for start in range(0, blocks, CHUNK):
        at = start + tl.arange(0, CHUNK)
        top = tl.maximum(top, tl.max(tl.load(largest + row * blocks + at, mask=at < blocks, other=_NONE), 0))
    total = u_block * 0.0
    for start in range(0, blocks, CHUNK):
        at = start + tl.arange(0, CHUNK)
        most = tl.load(largest + row * blocks + at, mask=at < blocks, other=_NONE)
        mass = tl.load(sums + row * blocks + at, mask=at < blocks, other=0.0)
        total += tl.sum((mass * _weights(most, top, temperature)).to(tl.float64), 0)
    found, last, before = blocks, -1, u_block * 0.0
    for start in range(0, blocks, CHUNK):
        at = start + tl.arange(0, CHUNK)
        most = tl.load(largest + row * blocks + at, mask=at < blocks, other=_NONE)
        mass = tl.load(sums + row * blocks + at, mask=at < blocks, other=0.0)
        weight = (mass * _weights(most, top, temperature)).to(tl.float64)
        running = before + tl.cumsum(weight, 0)
        found = tl.minimum(found, tl.min(tl.where((weight > 0) & (running > u_block * total), at, blocks), 0))
        last = tl.maximum(last, tl.max(tl.where(weight > 0, at, -1), 0))
        before += tl.sum(weight, 0)
    usable = (total > 0) & (total < float("inf")) & (top < float("inf")) & (top > _NONE)  # False for NaN
    block = tl.where(usable, tl.where(found < blocks, found, last), 0).to(tl.int64)

    place = tl.arange(0, BLOCK)
    x = _load(logits, allowed, row, block * BLOCK + place, columns, row_stride, allowed_stride)
    inside = _weights(x, tl.max(x, 0), temperature).to(tl.float64)
    running = tl.cumsum(inside, 0)
    passed = (inside > 0) & (running > u_column * tl.sum(inside, 0))
    column = tl.min(tl.where(passed, place, BLOCK), 0)
    column = tl.where(column < BLOCK, column, tl.max(tl.where(inside > 0, place, 0), 0))
    tl.store(tokens + row, tl.where(usable, block * BLOCK + column, -1))


# -- the operator --------------------------------------------------------------------------------------------


def _with_rows(tensor: Tensor) -> Tensor:
    """A tensor whose rows may lie anywhere, but whose columns lie side by side."""
    return tensor if tensor.shape[-1] <= 1 or tensor.stride(-1) == 1 else tensor.contiguous()


def sample_tokens(
    logits: Tensor,
    allowed: Tensor | None,
    temperature: float,
    row_temperature: Tensor | None,
    sample_ids: Tensor | None,
    seed: int,
    step: int,
) -> Tensor:
    """The operator; values are checked on the CPU, and on a GPU with SSLKERNELS_CHECK=1."""
    if values_are_checked(logits):
        check(logits, allowed, temperature, row_temperature, sample_ids, seed, step)
    rows, columns = logits.shape
    tokens = logits.new_full((rows,), -1, dtype=torch.int64)
    if logits.numel() == 0:
        return tokens
    logits = _with_rows(logits)
    flags = None if allowed is None else _with_rows(allowed)
    temperatures = torch.full((1,), temperature, dtype=torch.float64, device=logits.device)
    if row_temperature is not None:
        temperatures = row_temperature.double().contiguous()
    blocks = triton.cdiv(columns, _BLOCK)
    kind = torch.float64 if logits.dtype == torch.float64 else torch.float32
    largest, sums = (torch.empty(rows, blocks, dtype=kind, device=logits.device) for _ in range(2))
    strides = (
        logits.stride(0),
        flags.stride(0) if flags is not None and flags.dim() == 2 else 0,
        0 if row_temperature is None else 1,
    )
    weigh_kernel[(rows, triton.cdiv(blocks, _TILE))](  # the second side of a grid ends at 65535
        logits, flags, temperatures, largest, sums, columns, blocks, *strides, TILE=_TILE, BLOCK=_BLOCK
    )
    names = None if sample_ids is None else sample_ids.contiguous()
    draw_kernel[(rows,)](
        *(
            logits,
            flags,
            temperatures,
            names,
            largest,
            sums,
            tokens,
            columns,
            blocks,
            *strides,
            *signed_key(seed, step),
        ),
        CHUNK=_CHUNK,
        BLOCK=_BLOCK,
    )
    return tokens


def configurations() -> Iterator[tuple[Any, dict[str, Any], dict[str, Any]]]:
    """(kernel, arguments, options) of the launches that the function above makes."""
    numbers = {"columns": "i32", "blocks": "i32", "row_stride": "i64"}
    numbers |= {"allowed_stride": "i32", "temperature_stride": "i32"}
    for dtype in ("fp32", "fp64", "fp16", "bf16"):
        kind = "*fp64" if dtype == "fp64" else "*fp32"
        shared = {"logits": f"*{dtype}", "temperatures": "*fp64", "largest": kind, "sums": kind, **numbers}
        for flags in (None, "*i1"):
            given = {**shared, "allowed": flags, "BLOCK": _BLOCK}
            yield weigh_kernel, {**given, "TILE": _TILE}, {}
            key = {"key_low": "i32", "key_high": "i32", "tokens": "*i64"}
            yield draw_kernel, {**given, **key, "sample_ids": flags and "*i64", "CHUNK": _CHUNK}, {}
