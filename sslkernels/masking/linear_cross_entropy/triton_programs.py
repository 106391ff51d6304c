"""The programs of triton_kernels.py. A program takes a block of scored rows, of classes, or of both.

Rows come through `rows`, the numbers of the scored ones, of which there are `count`: what lies behind it is
neither read nor written. Operands of products keep their dtype; sums, and everything else, have the dtype of
the log-sum-exp. Products of fp32 are exact fp32 ("ieee"), not TF32.
"""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: N803

import triton
import triton.language as tl


@triton.jit
def _product(
    left, left_mask, right, right_mask, ACCUMULATE: tl.constexpr, D: tl.constexpr, BLOCK_K: tl.constexpr
):
    """(M, N): rows of D numbers that start at `left` (M,) times those at `right` (N,), both contiguous."""
    column = tl.arange(0, BLOCK_K)
    sums = tl.zeros([left.shape[0], right.shape[0]], ACCUMULATE)
    for start in range(0, D, BLOCK_K):
        at = start + column
        a = tl.load(left[:, None] + at[None, :], mask=left_mask[:, None] & (at < D)[None, :], other=0.0)
        b = tl.load(right[None, :] + at[:, None], mask=right_mask[None, :] & (at < D)[:, None], other=0.0)
        sums = tl.dot(a, b, sums, input_precision="ieee", out_dtype=ACCUMULATE)
    return sums


@triton.jit
def compact_kernel(labels, rows, count, total, classes, ignore_index, BLOCK: tl.constexpr):
    """The numbers of the rows with a label in [0, classes) that is not ignore_index, ascending."""
    found = tl.full((), 0, tl.int64)
    for start in range(0, total, BLOCK):
        at = start + tl.arange(0, BLOCK).to(tl.int64)
        label = tl.load(labels + at, mask=at < total, other=-1).to(tl.int64)
        scored = (at < total) & (label != ignore_index) & (label >= 0) & (label < classes)
        taken = scored.to(tl.int64)
        tl.store(rows + found + tl.cumsum(taken, 0) - 1, at, mask=scored)
        found += tl.sum(taken, 0)
    tl.store(count, found)


@triton.jit
def lse_kernel(
    hidden,
    weight,
    bias,
    labels,
    rows,
    count,
    largest_of,
    sum_of,
    target_of,
    total,
    classes,
    blocks,
    D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Online log-sum-exp of a block of rows over `blocks` blocks of classes: one part of it."""
    scored = tl.load(count)
    place = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    if tl.program_id(0).to(tl.int64) * BLOCK_M >= scored:
        return
    live = place < scored
    row = tl.load(rows + place, mask=live, other=0)
    label = tl.load(labels + row, mask=live, other=-1).to(tl.int32)
    accumulate = sum_of.dtype.element_ty
    largest = tl.full([BLOCK_M], float("-inf"), accumulate)
    sums = tl.zeros([BLOCK_M], accumulate)
    target = tl.zeros([BLOCK_M], accumulate)
    first = tl.program_id(1) * blocks * BLOCK_N
    for start in range(first, tl.minimum(first + blocks * BLOCK_N, classes), BLOCK_N):
        own = start + tl.arange(0, BLOCK_N)
        known = own < classes
        x = _product(hidden + row * D, live, weight + own.to(tl.int64) * D, known, accumulate, D, BLOCK_K)
        if bias is not None:
            x += tl.load(bias + own, mask=known, other=0.0).to(accumulate)[None, :]
        x = tl.where(known[None, :], x, float("-inf"))
        higher = tl.maximum(largest, tl.max(x, 1))
        shift = tl.where(higher == float("-inf"), 0.0, higher)  # -inf - -inf would be NaN
        sums = sums * tl.exp(largest - shift) + tl.sum(tl.exp(x - shift[:, None]), 1)
        target += tl.sum(tl.where(own[None, :] == label[:, None], x, 0.0), 1)
        largest = higher
    at = tl.program_id(1).to(tl.int64) * total + place
    tl.store(largest_of + at, largest, mask=live)
    tl.store(sum_of + at, sums, mask=live)
    tl.store(target_of + at, target, mask=live)


@triton.jit
def loss_kernel(rows, count, largest_of, sum_of, target_of, loss, lse, total, parts, BLOCK: tl.constexpr):
    """The parts of a row's log-sum-exp become one, and its loss."""
    scored = tl.load(count)
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = place < scored
    accumulate = loss.dtype.element_ty
    largest = tl.full([BLOCK], float("-inf"), accumulate)
    sums = tl.zeros([BLOCK], accumulate)
    target = tl.zeros([BLOCK], accumulate)
    for part in range(parts):
        at = part * total + place
        found = tl.load(largest_of + at, mask=live, other=0.0)
        higher = tl.maximum(largest, found)
        shift = tl.where(higher == float("-inf"), 0.0, higher)
        sums = sums * tl.exp(largest - shift) + tl.load(sum_of + at, mask=live, other=1.0) * tl.exp(
            found - shift
        )
        target += tl.load(target_of + at, mask=live, other=0.0)
        largest = higher
    row = tl.load(rows + place, mask=live, other=0)
    tl.store(loss + row, (largest - target) + tl.log(sums), mask=live)
    tl.store(lse + row, largest + tl.log(sums), mask=live)


@triton.jit
def hidden_kernel(
    hidden,
    weight,
    bias,
    labels,
    lse,
    upstream,
    rows,
    count,
    out,
    total,
    classes,
    blocks,
    D: tl.constexpr,
    PARTS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Columns of the gradient of a block of rows, from `blocks` blocks of classes.

    With PARTS a part of the sum goes to (part, place, D), for sum_kernel; else the gradient to its row.
    """
    scored = tl.load(count)
    place = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    if tl.program_id(0).to(tl.int64) * BLOCK_M >= scored:
        return
    live = place < scored
    row = tl.load(rows + place, mask=live, other=0)
    label = tl.load(labels + row, mask=live, other=-1).to(tl.int32)
    row_lse = tl.load(lse + row, mask=live, other=0.0)
    accumulate = lse.dtype.element_ty
    column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = column < D
    sums = tl.zeros([BLOCK_M, BLOCK_D], accumulate)
    first = tl.program_id(2) * blocks * BLOCK_N
    for start in range(first, tl.minimum(first + blocks * BLOCK_N, classes), BLOCK_N):
        own = start + tl.arange(0, BLOCK_N)
        known = own < classes
        x = _product(hidden + row * D, live, weight + own.to(tl.int64) * D, known, accumulate, D, BLOCK_K)
        if bias is not None:
            x += tl.load(bias + own, mask=known, other=0.0).to(accumulate)[None, :]
        change = tl.exp(x - row_lse[:, None]) - (own[None, :] == label[:, None]).to(accumulate)
        change = tl.where(live[:, None] & known[None, :], change, 0.0)
        class_rows = tl.load(
            weight + own.to(tl.int64)[:, None] * D + column[None, :],
            mask=known[:, None] & inside[None, :],
            other=0.0,
        )
        sums = tl.dot(
            change.to(weight.dtype.element_ty), class_rows, sums, input_precision="ieee", out_dtype=accumulate
        )
    if PARTS:
        at = tl.program_id(2).to(tl.int64) * total + place
    else:
        at = row
        sums *= tl.load(upstream + row, mask=live, other=0.0).to(accumulate)[:, None]
    tl.store(
        out + at[:, None] * D + column[None, :],
        sums.to(out.dtype.element_ty),
        mask=live[:, None] & inside[None, :],
    )


@triton.jit
def sum_kernel(
    sums_of,
    upstream,
    rows,
    count,
    out,
    total,
    parts,
    D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Parts of hidden_kernel's sums, times the upstream gradient, to their rows."""
    scored = tl.load(count)
    place = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    if tl.program_id(0).to(tl.int64) * BLOCK_M >= scored:
        return
    live = place < scored
    column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    mask = live[:, None] & (column < D)[None, :]
    accumulate = sums_of.dtype.element_ty
    sums = tl.zeros([BLOCK_M, BLOCK_D], accumulate)
    for part in range(parts):
        at = part * total + place
        sums += tl.load(sums_of + at[:, None] * D + column[None, :], mask=mask, other=0.0)
    row = tl.load(rows + place, mask=live, other=0)
    sums *= tl.load(upstream + row, mask=live, other=0.0).to(accumulate)[:, None]
    tl.store(out + row[:, None] * D + column[None, :], sums.to(out.dtype.element_ty), mask=mask)


@triton.jit
def weight_kernel(
    hidden,
    weight,
    bias,
    labels,
    lse,
    upstream,
    rows,
    count,
    weight_out,
    bias_out,
    classes,
    parts,
    D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Gradients of a block of classes, columns of the weight's, over one of `parts` stretches of the rows."""
    accumulate = lse.dtype.element_ty
    own = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    known = own < classes
    column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = column < D
    scored = tl.load(count)
    stretch = tl.cdiv(tl.cdiv(scored, BLOCK_M), parts) * BLOCK_M
    begin = tl.program_id(2) * stretch
    end = tl.minimum(begin + stretch, scored)
    offset = tl.zeros([BLOCK_N], accumulate)
    if bias is not None:
        offset += tl.load(bias + own, mask=known, other=0.0).to(accumulate)
    sums = tl.zeros([BLOCK_N, BLOCK_D], accumulate)
    bias_sums = tl.zeros([BLOCK_N], accumulate)
    for start in range(begin, end, BLOCK_M):
        place = start + tl.arange(0, BLOCK_M)
        live = place < end
        row = tl.load(rows + place, mask=live, other=0)
        label = tl.load(labels + row, mask=live, other=-1).to(tl.int32)
        x = _product(weight + own.to(tl.int64) * D, known, hidden + row * D, live, accumulate, D, BLOCK_K)
        x += offset[:, None]
        change = tl.exp(x - tl.load(lse + row, mask=live, other=0.0)[None, :])
        change -= (own[:, None] == label[None, :]).to(accumulate)
        change *= tl.load(upstream + row, mask=live, other=0.0).to(accumulate)[None, :]
        change = tl.where(known[:, None] & live[None, :], change, 0.0)
        if weight_out is not None:
            states = tl.load(
                hidden + row[:, None] * D + column[None, :], mask=live[:, None] & inside[None, :], other=0.0
            )
            sums = tl.dot(
                change.to(hidden.dtype.element_ty), states, sums, input_precision="ieee", out_dtype=accumulate
            )
        if bias_out is not None:
            bias_sums += tl.sum(change, 1)
    at = tl.program_id(2).to(tl.int64) * classes + own
    if weight_out is not None:
        tl.store(
            weight_out + at[:, None] * D + column[None, :],
            sums.to(weight_out.dtype.element_ty),
            mask=known[:, None] & inside[None, :],
        )
    if bias_out is not None and tl.program_id(1) == 0:
        tl.store(bias_out + at, bias_sums.to(bias_out.dtype.element_ty), mask=known)
