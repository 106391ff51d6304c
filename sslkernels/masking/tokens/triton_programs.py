"""The programs of triton_kernels.py: the stages over a block, and the kernels that run them."""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: N803

import triton
import triton.language as tl

from sslkernels._random import PURPOSE
from sslkernels.masking.philox_triton import bounded, draw, draw_word

_SELECT, _ACTION = tl.constexpr(PURPOSE.select), tl.constexpr(PURPOSE.action)
_ROW_UNIFORM = tl.constexpr(PURPOSE.row_uniform)

# -- stages --------------------------------------------------------------------------------------------------


@triton.jit
def _is_special(ids, ranges, n_ranges):
    special = ids != ids
    for at in range(n_ranges):
        special |= (ids >= tl.load(ranges + 2 * at)) & (ids <= tl.load(ranges + 2 * at + 1))
    return special


@triton.jit
def _eligible(ids, cell, mask, maskable, ranges, n_ranges):
    if maskable is not None:
        return (tl.load(maskable + cell, mask=mask, other=0) != 0) & mask
    return mask & ~_is_special(ids, ranges, n_ranges)


@triton.jit
def _uniform(ids, word, ranges, n_ranges, vocab_size, drawable, EXCLUDE: tl.constexpr):
    """A random id that is not special and, on request, not the original."""
    n = drawable + tl.zeros_like(word)
    own = ids
    ordinary = ids != ids
    if EXCLUDE:
        ordinary = (ids >= 0) & (ids < vocab_size) & ~_is_special(ids, ranges, n_ranges)
        for at in range(n_ranges):
            low = tl.maximum(tl.load(ranges + 2 * at), 0)
            width = tl.maximum(tl.minimum(tl.load(ranges + 2 * at + 1), vocab_size - 1) - low + 1, 0)
            own -= tl.where(ids >= low, width, 0)
        n -= ordinary.to(tl.int64)
    drawn = bounded(word, n)
    if EXCLUDE:
        drawn += (ordinary & (drawn >= own)).to(tl.int64)
    for at in range(n_ranges):
        low = tl.maximum(tl.load(ranges + 2 * at), 0)
        width = tl.maximum(tl.minimum(tl.load(ranges + 2 * at + 1), vocab_size - 1) - low + 1, 0)
        drawn += tl.where(drawn >= low, width, 0)
    if EXCLUDE:
        drawn = tl.where(ordinary & (drawable == 1), ids, drawn)
    return drawn


@triton.jit
def _clustered(
    ids,
    cluster_word,
    word,
    mask,
    cluster_of,
    tokens,
    ptr,
    limits,
    place_of,
    vocabulary,
    number,
    EXCLUDE: tl.constexpr,
    STEPS: tl.constexpr,
):
    """A random id out of a cluster drawn for the original's own; out of all where it has none."""
    known = mask & (ids >= 0) & (ids < vocabulary)
    own = tl.load(cluster_of + ids, mask=known, other=-1).to(tl.int64)
    known &= (own >= 0) & (own < number)
    own = tl.where(known, own, 0)
    row = limits + own * number
    leaves = ids != ids
    alone = leaves
    cut = tl.zeros_like(ids)
    place = tl.zeros_like(ids)
    drawn_tokens = tl.load(ptr + number).to(tl.int64)
    if EXCLUDE:
        place = tl.load(place_of + ids, mask=known, other=vocabulary).to(tl.int64)
        leaves = known & (place < drawn_tokens)
        size = tl.load(ptr + own + 1, mask=known, other=0) - tl.load(ptr + own, mask=known, other=0)
        alone = leaves & (size == 1)
        low = tl.load(row + own - 1, mask=alone & (own > 0), other=0)
        cut = tl.where(alone, tl.load(row + own, mask=alone, other=0) - low, 0)
        cluster_word = bounded(cluster_word, 4294967296 - cut)
        cluster_word += tl.where(alone & (cluster_word >= low), cut, 0)
    cluster = tl.zeros_like(ids)
    for step in tl.static_range(STEPS):
        further = cluster + (1 << (STEPS - 1 - step))
        inside = known & (further <= number)
        below = tl.load(row + further - 1, mask=inside, other=4294967296) <= cluster_word
        cluster = tl.where(inside & below, further, cluster)
    cluster = tl.minimum(cluster, number - 1)
    skips = leaves & ~alone & (cluster == own)
    first = tl.load(ptr + cluster, mask=known, other=0).to(tl.int64)
    size = tl.load(ptr + cluster + 1, mask=known, other=0).to(tl.int64) - first - skips.to(tl.int64)
    rank = first + bounded(word, tl.where(known, size, drawn_tokens))
    rank += (skips & (rank >= place)).to(tl.int64)
    drawn = tl.load(tokens + rank, mask=mask & (rank >= 0) & (rank < vocabulary), other=0).to(tl.int64)
    return tl.where(alone & (cut == 4294967296), ids, drawn)


# -- kernels -------------------------------------------------------------------------------------------------


@triton.jit
def flag_kernel(ids, maskable, flags, ranges, cells, n_ranges, BLOCK: tl.constexpr):
    """Eligibility of every cell, for the stages that need it of whole rows."""
    cell = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = cell < cells
    original = tl.load(ids + cell, mask=mask, other=0).to(tl.int64)
    tl.store(flags + cell, _eligible(original, cell, mask, maskable, ranges, n_ranges), mask=mask)


@triton.jit(do_not_specialize=["key_low", "key_high"])
def words_kernel(
    row_of,
    position_of,
    sample_ids,
    out,
    total,
    key_low,
    key_high,
    PURPOSE_OF: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A word of select or top_up for every position."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < total
    sample = tl.load(row_of + at, mask=mask, other=0)
    if sample_ids is not None:
        sample = tl.load(sample_ids + sample, mask=mask, other=0)
    position = tl.load(position_of + at, mask=mask, other=0)
    tl.store(out + at, draw_word(position, PURPOSE_OF, sample, key_low, key_high), mask=mask)


@triton.jit(do_not_specialize=["key_low", "key_high"])
def corrupt_kernel(
    ids,
    found,
    scored,
    selected,
    maskable,
    flags,
    chosen,
    unit_of,
    row_of,
    position_of,
    sample_ids,
    row_limit,
    ranges,
    cluster_of,
    cluster_tokens,
    cluster_ptr,
    cluster_limits,
    place_of,
    cells,
    length,
    columns,
    n_ranges,
    vocab_size,
    drawable,
    clusters,
    limit,
    mask_limit,
    random_limit,
    mask_id,
    ignore_index,
    key_low,
    key_high,
    DENSE: tl.constexpr,
    STAGED: tl.constexpr,
    LABELS: tl.constexpr,
    RANDOM: tl.constexpr,
    EXCLUDE: tl.constexpr,
    STEPS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Choose (unless STAGED), act, replace and score a block of cells.

    Long because a kernel's arguments stand one a line and its stages share them.
    """
    if DENSE:
        row = tl.program_id(0).to(tl.int64)
        position = tl.program_id(1).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        cell = row * length + position
        mask = position < length
        place, unit = position, position
        sample = row
        if sample_ids is not None:
            sample = tl.load(sample_ids + row)
        sample += tl.zeros_like(position)
    else:
        cell = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        mask = cell < cells
        at = cell // columns
        row = tl.load(row_of + at, mask=mask, other=0)
        position = tl.load(position_of + at, mask=mask, other=0)
        place, unit = position * columns + cell % columns, position
        sample = row
        if sample_ids is not None:
            sample = tl.load(sample_ids + row, mask=mask, other=0)
    original = tl.load(ids + cell, mask=mask, other=0).to(tl.int64)

    if STAGED:
        eligible = tl.load(flags + cell, mask=mask, other=0) != 0
        take = eligible & (tl.load(chosen + cell // columns, mask=mask, other=0) != 0)
        unit = tl.load(unit_of + cell // columns, mask=mask, other=0)
    else:
        eligible = _eligible(original, cell, mask, maskable, ranges, n_ranges)
        bound = limit
        if row_limit is not None:
            bound = tl.load(row_limit + row)
        if DENSE:  # a block starts at a multiple of four: a call serves four neighbours
            first = tl.program_id(1).to(tl.int64) * (BLOCK // 4) + tl.arange(0, BLOCK // 4)
            own = tl.zeros_like(first)
            own += row if sample_ids is None else tl.load(sample_ids + row)
            w0, w1, w2, w3 = draw(first, _SELECT, own, key_low, key_high)
            word = tl.interleave(tl.interleave(w0, w2), tl.interleave(w1, w3)).to(tl.int64)
        else:
            word = draw_word(position, _SELECT, sample, key_low, key_high)
        take = eligible & (word < bound)

    word0, word1, word2, _ = draw(place, _ACTION, sample, key_low, key_high)
    action = word0.to(tl.int64)
    if STAGED:
        word0, _, _, _ = draw(unit, _ACTION, sample, key_low, key_high)
        action = word0.to(tl.int64)
    value = original
    if RANDOM == 1:
        drawn = _uniform(original, word1.to(tl.int64), ranges, n_ranges, vocab_size, drawable, EXCLUDE)
        value = tl.where(take & (action < random_limit), drawn, value)
    if RANDOM == 2:
        drawn = _clustered(
            original,
            word2.to(tl.int64),
            word1.to(tl.int64),
            mask,
            cluster_of,
            cluster_tokens,
            cluster_ptr,
            cluster_limits,
            place_of,
            vocab_size,
            clusters,
            EXCLUDE,
            STEPS,
        )
        value = tl.where(take & (action < random_limit), drawn, value)
    value = tl.where(take & (action < mask_limit), mask_id, value)
    if LABELS == 0:
        label = tl.where(take, original, ignore_index)
    elif LABELS == 1:
        label = tl.where(eligible, take.to(tl.int64), ignore_index)
    else:
        label = tl.where(eligible, (value != original).to(tl.int64), ignore_index)
    tl.store(found + cell, value, mask=mask)
    tl.store(scored + cell, label, mask=mask)
    tl.store(selected + cell, take, mask=mask)


@triton.jit
def list_kernel(chosen, begins, ends, positions, counts, capacity, BLOCK: tl.constexpr):
    """The first `capacity` selected positions of a sample, and how many there are."""
    row = tl.program_id(0).to(tl.int64)
    begin, end = tl.load(begins + row), tl.load(ends + row)
    count = begin * 0
    for start in range(begin, end, BLOCK):
        at = start + tl.arange(0, BLOCK)
        taken = tl.load(chosen + at, mask=at < end, other=0).to(tl.int64)
        rank = count + tl.cumsum(taken, 0) - 1
        kept = (taken != 0) & (rank < capacity)
        tl.store(positions + row * capacity + rank, (at - begin).to(tl.int32), mask=kept)
        count += tl.sum(taken, 0)
    tl.store(counts + row, count.to(tl.int32))


@triton.jit(do_not_specialize=["key_low", "key_high"])
def row_uniform_kernel(sample_ids, out, total, key_low, key_high, BLOCK: tl.constexpr):
    """The upper 24 bits of a word a row, which float32 holds exactly."""
    row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = row < total
    sample = tl.load(sample_ids + row, mask=mask, other=0)
    word, _, _, _ = draw(tl.zeros_like(sample), _ROW_UNIFORM, sample, key_low, key_high)
    tl.store(out + row, (word >> 8).to(tl.float32) * (1.0 / 16777216.0), mask=mask)
