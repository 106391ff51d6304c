"""Philox in Triton programs, the twin of csrc/common/philox.h; its key comes from _random.signed_key."""

# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl


@triton.jit
def draw(position, purpose, sample, key_low, key_high):
    """Four uint32 words at each (sample, position); either may be one number."""
    counter = (position & 0xFFFFFFFF).to(tl.uint32)
    low = (sample & 0xFFFFFFFF).to(tl.uint32)
    high = ((sample >> 32) & 0xFFFFFFFF).to(tl.uint32)
    zero = (counter ^ counter) + (low ^ low)
    return tl.philox_impl(
        zero + counter,
        zero + purpose,
        zero + low,
        zero + high,
        key_low.to(tl.uint32, bitcast=True),
        key_high.to(tl.uint32, bitcast=True),
    )


@triton.jit
def draw_word(position, purpose, sample, key_low, key_high):
    """One word a position, where a call serves four: word position % 4 of call position / 4; int64."""
    w0, w1, w2, w3 = draw(position >> 2, purpose, sample, key_low, key_high)
    place = position & 3
    word = tl.where(place < 2, tl.where(place == 0, w0, w1), tl.where(place == 2, w2, w3))
    return word.to(tl.int64)


@triton.jit
def bounded(word, n):
    """An integer in [0, n): the upper half of a product that may pass 2^63 and then wraps."""
    return ((word.to(tl.int64) * n) >> 32) & 0xFFFFFFFF
