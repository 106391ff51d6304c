"""Which tokens are one word, from what a fast tokenizer tells of them."""

import numpy as np
from numpy.typing import NDArray

WORD_STARTS = (
    "\u2581",
    "\u0120",
)  # of sentencepiece and byte-level tokenizers: a space went before the token


def word_start_table(tokens: list[str | None]) -> NDArray[np.bool_]:
    """(V,): which tokens carry a mark of a word's start."""
    return np.array([token is not None and token.startswith(WORD_STARTS) for token in tokens], dtype=bool)


def word_groups(
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    marked: NDArray[np.bool_],
    special: NDArray[np.bool_],
    breaks: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """(T,): a number a word, -1 for special tokens, of texts one after another.

    starts, ends  (T,) offsets of the tokens in their text
    marked        (T,) the token carries a mark of a word's start: it begins a word even where offsets touch
    breaks        (T,) another text begins here for certain
    """
    if len(starts) == 0:
        return np.empty(0, dtype=np.int64)
    begins = marked | breaks | special
    begins[0] = True
    begins[1:] |= special[:-1]
    begins[1:] |= starts[1:] > ends[:-1]  # a gap; where they touch or overlap it is one word
    begins[1:] |= (starts[1:] < starts[:-1]) | (ends[1:] < ends[:-1])  # backwards: another text
    words = np.cumsum(begins) - 1
    return np.where(special, -1, words)
