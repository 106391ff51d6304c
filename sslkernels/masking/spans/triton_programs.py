"""The programs of triton_kernels.py.

What goes step by step (choosing places, drawing lengths) has a lane a row; what goes over positions has a
program a row, which walks it in blocks. A lane reads what it wrote, so that `choose_kernel` needs no memory
but its result, whatever the length of a row.
"""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: N803

import triton
import triton.language as tl

from sslkernels._random import PURPOSE
from sslkernels.masking.philox_triton import bounded, draw, draw_word

_COUNT = tl.constexpr(PURPOSE.span_count)
_PLACE, _LENGTH = tl.constexpr(PURPOSE.span_place), tl.constexpr(PURPOSE.span_length)


@triton.jit(do_not_specialize=["key_low", "key_high"])
def count_words_kernel(sample_ids, words, rows, key_low, key_high, BLOCK: tl.constexpr):
    """The word that rounds the number of spans of a row."""
    row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    sample = tl.load(sample_ids + row, mask=row < rows, other=0)
    word, _, _, _ = draw(tl.zeros_like(sample), _COUNT, sample, key_low, key_high)
    tl.store(words + row, word.to(tl.int64), mask=row < rows)


@triton.jit(do_not_specialize=["key_low", "key_high"])
def choose_kernel(
    sample_ids, counts, sizes, firsts, chosen, rows, width, key_low, key_high, BLOCK: tl.constexpr
):
    """Marks `counts` different places of [0, sizes) in each row by Floyd's method, words from `firsts` on."""
    row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = row < rows
    sample = tl.load(sample_ids + row, mask=mask, other=0)
    count = tl.load(counts + row, mask=mask, other=0)
    size = tl.load(sizes + row, mask=mask, other=0)
    first = tl.zeros_like(count)
    if firsts is not None:
        first = tl.load(firsts + row, mask=mask, other=0)
    own = chosen + row * width
    for step in range(tl.max(count, 0)):
        active = step < count
        last = size - count + step
        place = bounded(draw_word(first + step, _PLACE, sample, key_low, key_high), last + 1)
        taken = tl.load(own + place, mask=active, other=0) != 0
        tl.store(own + tl.where(taken, last, place), active, mask=active)
        tl.debug_barrier()  # the next step reads what this one wrote


@triton.jit
def cover_kernel(starts, begun, mask, width, span, BLOCK: tl.constexpr):
    """A position is masked where more spans have begun than `span` positions before; `begun` is scratch."""
    row = tl.program_id(0).to(tl.int64) * width
    before = tl.zeros((), tl.int32)
    for begin in range(0, width, BLOCK):
        at = begin + tl.arange(0, BLOCK)
        start = tl.load(starts + row + at, mask=at < width, other=0).to(tl.int32)
        count = before + tl.cumsum(start, 0)
        tl.store(begun + row + at, count, mask=at < width)
        tl.debug_barrier()
        ended = tl.load(begun + row + at - span, mask=(at < width) & (at >= span), other=0)
        tl.store(mask + row + at, count > ended, mask=at < width)
        before += tl.sum(start, 0)


@triton.jit(do_not_specialize=["key_low", "key_high"])
def widths_kernel(
    sample_ids,
    hidden,
    limits,
    widths,
    counts,
    rows,
    width,
    n_limits,
    key_low,
    key_high,
    STEPS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Widths of the spans that fill `hidden`; the last, cut one changes places with one drawn uniformly."""
    row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = row < rows
    sample = tl.load(sample_ids + row, mask=mask, other=0)
    left = tl.load(hidden + row, mask=mask, other=0)
    count = tl.zeros_like(left)
    own = widths + row * width
    while tl.max(left, 0) > 0:
        word = draw_word(count, _LENGTH, sample, key_low, key_high)
        reached = tl.zeros_like(count)
        for step in tl.static_range(STEPS):
            further = reached + (1 << (STEPS - 1 - step))
            inside = further <= n_limits
            limit = tl.load(limits + further - 1, mask=inside, other=4294967296)
            reached = tl.where(limit <= word, further, reached)
        drawn = tl.minimum(reached + 1, left)
        tl.store(own + count, drawn.to(tl.int32), mask=left > 0)
        count += (left > 0).to(tl.int64)
        left -= drawn
    tl.debug_barrier()
    some = count > 0
    _, word, _, _ = draw(tl.zeros_like(sample), _COUNT, sample, key_low, key_high)
    other = bounded(word, count)
    drawn = tl.load(own + other, mask=some, other=0)
    cut = tl.load(own + count - 1, mask=some, other=0)
    tl.debug_barrier()
    tl.store(own + count - 1, drawn, mask=some)
    tl.debug_barrier()
    tl.store(own + other, cut, mask=some)
    tl.store(counts + row, count, mask=mask)


@triton.jit
def number_kernel(slots, sizes, widths, groups, width, BLOCK: tl.constexpr):
    """Writes the number of each span over its positions; `groups` is -1 before."""
    index = tl.program_id(0).to(tl.int64)
    row = index * width
    size = tl.load(sizes + index)
    number = tl.zeros((), tl.int32)
    wider = tl.zeros((), tl.int32)
    for begin in range(0, size, BLOCK):
        slot = begin + tl.arange(0, BLOCK)
        span = tl.load(slots + row + slot, mask=slot < size, other=0).to(tl.int32)
        rank = number + tl.cumsum(span, 0) - span
        extra = tl.load(widths + row + rank, mask=span != 0, other=1) - 1
        at = slot + wider + tl.cumsum(extra, 0) - extra
        for offset in range(tl.max(extra, 0) + 1):
            tl.store(groups + row + at + offset, rank, mask=(span != 0) & (offset <= extra))
        number += tl.sum(span, 0)
        wider += tl.sum(extra, 0)


@triton.jit
def edges_kernel(cuts, tokens, spans, edges, width, most, BLOCK: tl.constexpr):
    """Where each stretch begins, and at `spans` where the last one ends; `edges` is 0 before."""
    index = tl.program_id(0).to(tl.int64)
    size = tl.load(tokens + index)
    own = edges + index * most
    rank = tl.zeros((), tl.int32)
    for begin in range(0, size - 1, BLOCK):
        at = begin + tl.arange(0, BLOCK)
        cut = tl.load(cuts + index * width + at, mask=at < size - 1, other=0).to(tl.int32)
        tl.store(own + rank + tl.cumsum(cut, 0), (at + 1).to(tl.int32), mask=cut != 0)
        rank += tl.sum(cut, 0)
    tl.store(own + tl.load(spans + index), size.to(tl.int32))


@triton.jit
def emit_kernel(
    ids,
    cuts,
    tokens,
    spans,
    edges,
    others,
    out,
    length,
    width,
    most,
    sentinel,
    eos_id,
    pad_id,
    HIDDEN: tl.constexpr,
    EOS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A row of the inputs (kept stretches, a sentinel behind each), or of the targets (HIDDEN: before each).

    `edges` are those of the row's own stretches, `others` those of the stretches that alternate with them.
    """
    index = tl.program_id(0).to(tl.int64)
    size, number = tl.load(tokens + index), tl.load(spans + index)
    row = out + index * width
    stretch_before = tl.zeros((), tl.int32)
    for begin in range(0, size, BLOCK):
        at = begin + tl.arange(0, BLOCK)
        cut = tl.load(cuts + index * length + at, mask=at < size - 1, other=0).to(tl.int32)
        stretch = stretch_before + tl.cumsum(cut, 0) - cut
        source = at + tl.load(others + index * most + stretch + HIDDEN, mask=at < size, other=0)
        token = tl.load(ids + index * length + source, mask=at < size, other=0)
        tl.store(row + at + stretch + HIDDEN, token, mask=at < size)
        stretch_before += tl.sum(cut, 0)
    for begin in range(0, number, BLOCK):
        at = begin + tl.arange(0, BLOCK)
        place = at + tl.load(edges + index * most + at + 1 - HIDDEN, mask=at < number, other=0)
        tl.store(row + place, sentinel - at, mask=at < number)
    end = size + number
    for begin in range(end, width, BLOCK):
        at = begin + tl.arange(0, BLOCK)
        value = pad_id + tl.zeros_like(at)
        if EOS:
            value = tl.where(at == end, eos_id, value)
        tl.store(row + at, value, mask=at < width)
