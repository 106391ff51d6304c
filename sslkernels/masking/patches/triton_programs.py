"""The programs of triton_kernels.py: the hiding of a pool of tiles, and the kernels that run them."""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: N803

import triton
import triton.language as tl

from sslkernels._random import PURPOSE
from sslkernels.masking.philox_triton import bounded, draw, draw_word

_RANK, _SHAPE = tl.constexpr(PURPOSE.patch_rank), tl.constexpr(PURPOSE.patch_shape)
_PLACE = tl.constexpr(PURPOSE.patch_place)


@triton.jit
def _smallest(words, pool, count):
    """The `count` members of the smallest words, of equal words the first: by the bits of the last one."""
    last = count * 0
    bit = last + (1 << 31)
    for _ in range(32):
        trial = last | bit
        below = tl.sum((pool & (words < trial)).to(tl.int64), axis=0)
        last = tl.where(below < count, trial, last)
        bit = bit >> 1
    below = tl.sum((pool & (words < last)).to(tl.int64), axis=0)
    equal = pool & (words == last)
    rank = tl.cumsum(equal.to(tl.int64), axis=0)
    return (pool & (words < last)) | (equal & (rank <= count - below))


@triton.jit
def _power_of_two(y):
    """2^(y / 2^16) in 2^-16, out of 2^(1/2), 2^(1/4), ...; y / 2^16 lies in [-14, 14]."""
    power = y * 0 + (1 << 30)
    power = _times_root(power, y, 15, 1518500250)
    power = _times_root(power, y, 14, 1276901417)
    power = _times_root(power, y, 13, 1170923762)
    power = _times_root(power, y, 12, 1121280436)
    power = _times_root(power, y, 11, 1097253708)
    power = _times_root(power, y, 10, 1085434106)
    power = _times_root(power, y, 9, 1079572136)
    power = _times_root(power, y, 8, 1076653033)
    power = _times_root(power, y, 7, 1075196443)
    power = _times_root(power, y, 6, 1074468888)
    power = _times_root(power, y, 5, 1074105294)
    power = _times_root(power, y, 4, 1073923544)
    power = _times_root(power, y, 3, 1073832680)
    power = _times_root(power, y, 2, 1073787251)
    power = _times_root(power, y, 1, 1073764537)
    power = _times_root(power, y, 0, 1073753181)
    return power >> (14 - (y >> 16))


@triton.jit
def _times_root(power, y, bit: tl.constexpr, root: tl.constexpr):
    return tl.where(((y >> bit) & 1) > 0, (power * root) >> 30, power)


@triton.jit
def _side(square, most):
    """round(sqrt(square / 4)), halves up, within [1, most], by the root's bits; square < 2^62."""
    root = square * 0
    bit = root + (1 << 30)
    for _ in range(31):
        trial = root | bit
        root = tl.where(trial * trial <= square, trial, root)
        bit = bit >> 1
    return tl.minimum(tl.maximum((root + 1) // 2, 1), most)


@triton.jit
def _first(chosen, side, sides, word):
    """First row (or column) of a side that holds `chosen`, uniform over the grid's room."""
    low = tl.maximum(chosen - side + 1, 0)
    high = tl.minimum(chosen, sides - side)
    return low + bounded(word, high - low + 1)


# -- hiding --------------------------------------------------------------------------------------------------


@triton.jit
def _rectangles(tile, pool, count, position, sample, rows, columns, least, low, high, key_low, key_high):
    """Rectangles around a free tile each, until `count` are taken; returns the free ones and the position."""
    free, left = pool, count
    row, column = tile // columns, tile % columns
    while left > 0:
        area_word, aspect_word, tile_word, order = draw(position, _SHAPE, sample, key_low, key_high)
        row_word, column_word, _, _ = draw(position, _PLACE, sample, key_low, key_high)
        smallest = tl.minimum(left, least)
        area = smallest + bounded(area_word, left - smallest + 1)
        aspect = _power_of_two(low + bounded(aspect_word, high - low + 1))
        # A side that passes the grid's is cut: the square need not be known past that.
        height = _side(tl.minimum((4 * area * aspect) >> 16, 4 * rows * rows), rows)
        width = _side(tl.minimum((4 * area << 16) // aspect, 4 * columns * columns), columns)
        number = tl.cumsum(free.to(tl.int64), axis=0)
        rank = bounded(tile_word, tl.sum(free.to(tl.int64), axis=0))
        chosen = tl.sum(tl.where(free & (number == rank + 1), tile, 0), axis=0)
        top = _first(chosen // columns, height, rows, row_word)
        first = _first(chosen % columns, width, columns, column_word)
        new = free & (row >= top) & (row < top + height) & (column >= first) & (column < first + width)
        taken = tl.sum(new.to(tl.int64), axis=0)
        if taken > left:
            down = tl.where((order & 2) > 0, rows - 1 - row, row)
            across = tl.where((order & 4) > 0, columns - 1 - column, column)
            turn = tl.where((order & 1) > 0, across * rows + down, down * columns + across)
            new = _smallest(turn, new, left)
            taken = left
        free = free & (new == 0)
        left -= taken
        position += 1
    return free, position


@triton.jit(do_not_specialize=["key_low", "key_high", "masked", "covered", "low", "high"])
def hide_kernel(
    sample_ids,
    hidden,
    rows,
    columns,
    views,
    masked,
    covered,
    least,
    low,
    high,
    key_low,
    key_high,
    RECTANGLES: tl.constexpr,
    DISJOINT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """hidden (B, V, tiles): a program is a view; where views are disjoint, a sample with all its views."""
    at = tl.program_id(0).to(tl.int64)
    sample = tl.load(sample_ids + at)
    rows, columns, tile = rows.to(tl.int64), columns.to(tl.int64), tl.arange(0, BLOCK).to(tl.int64)
    masked, covered = masked.to(tl.int64), covered.to(tl.int64)
    least, low, high = least.to(tl.int64), low.to(tl.int64), high.to(tl.int64)
    tiles = rows * columns
    inside = tile < tiles
    seen = tile < 0
    before = tiles * 0
    first = tl.program_id(1)
    last = views if DISJOINT else first + 1
    for view in range(first, last):
        number = at * 0 + view
        fresh = masked
        if DISJOINT:
            fresh = tl.minimum(masked, tl.maximum(covered - before, 0))
            if view == 0:
                fresh = masked
        position, words, taken = number * tiles, tile, tile < 0
        if not RECTANGLES:
            words = draw_word(number * ((tiles + 3) // 4 * 4) + tile, _RANK, sample, key_low, key_high)
        pool, count = inside & (seen == 0), fresh
        for _ in range(2 if DISJOINT else 1):
            if RECTANGLES:
                free, position = _rectangles(
                    *(tile, pool, count, position, sample, rows, columns, least, low, high),
                    *(key_low, key_high),
                )
                taken = taken | (pool & (free == 0))
            else:
                taken = taken | _smallest(words, pool, count)
            pool, count = seen, masked - fresh
        if DISJOINT:
            seen = seen | taken
            before += fresh
        tl.store(hidden + (at * views + view) * tiles + tile, taken, mask=inside)


@triton.jit
def layout_kernel(
    hidden,
    mask,
    keep,
    restore,
    frames,
    rows,
    columns,
    tile_rows,
    tile_columns,
    kept,
    BLOCK: tl.constexpr,
):
    """Tiles of one view to its cells: the mask, the visible cells, and where each stands."""
    at = tl.program_id(0).to(tl.int64)
    width = columns * tile_columns
    frame = rows * tile_rows * width
    cells = frames * frame
    visible = at * 0
    for begin in range(0, cells, BLOCK):
        cell = begin + tl.arange(0, BLOCK)
        inside = cell < cells
        row, column = (cell % frame) // width, cell % width
        tile = row // tile_rows * columns + column // tile_columns
        gone = tl.load(hidden + at * rows * columns + tile, mask=inside, other=1) != 0
        shown = (inside & (gone == 0)).to(tl.int64)
        number = visible + tl.cumsum(shown, axis=0) - shown  # visible cells before this one
        tl.store(mask + at * cells + cell, gone, mask=inside)
        tl.store(keep + at * kept + number, cell.to(tl.int64), mask=shown != 0)
        place = tl.where(gone, kept + cell - number, number)
        tl.store(restore + at * cells + cell, place, mask=inside)
        visible += tl.sum(shown, axis=0)


# -- rows ----------------------------------------------------------------------------------------------------


@triton.jit
def copy_kernel(source, index, fill, out, entries, limit, width, BLOCK: tl.constexpr):
    """out[r, i] = source[r, index[r, i]]; outside [0, limit) `fill`, or zeros without one."""
    at = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    place = tl.load(index + at).to(tl.int64)
    known = (place >= 0) & (place < limit)
    place = tl.where(known, place, 0)
    value = tl.load(source + (at // entries * limit + place) * width + column, mask=inside & known, other=0)
    if fill is not None:
        value = tl.where(known, value, tl.load(fill + column, mask=inside, other=0))
    tl.store(out + at * width + column, value, mask=inside)


@triton.jit
def sum_kernel(grad, order, ends, out, width, BLOCK: tl.constexpr, ACCUMULATE: tl.constexpr):
    """out[c] = the sum of grad[order[i]] over the places i of one index, in their order."""
    at = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    total = tl.zeros([BLOCK], ACCUMULATE)
    for i in range(tl.load(ends + at), tl.load(ends + at + 1)):
        row = tl.load(order + i).to(tl.int64)
        total += tl.load(grad + row * width + column, mask=inside, other=0).to(ACCUMULATE)
    tl.store(out + at * width + column, total.to(out.dtype.element_ty), mask=inside)


@triton.jit
def hidden_kernel(
    grad, index, out, total, kept, width, ROWS: tl.constexpr, BLOCK: tl.constexpr, ACCUMULATE: tl.constexpr
):
    """out[p] = the sum over ROWS rows of grad of those whose index is `kept` or more, or below 0."""
    begin = tl.program_id(0).to(tl.int64) * ROWS
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    sums = tl.zeros([BLOCK], ACCUMULATE)
    for i in range(begin, tl.minimum(begin + ROWS, total)):
        place = tl.load(index + i)
        wanted = inside & ((place >= kept) | (place < 0))
        sums += tl.load(grad + i * width + column, mask=wanted, other=0).to(ACCUMULATE)
    tl.store(out + tl.program_id(0).to(tl.int64) * width + column, sums, mask=inside)
