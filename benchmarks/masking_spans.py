"""Spans against the methods in use: T5's and SpanBERT's in NumPy as released, wav2vec 2.0's in transformers.

The released code of T5 masks and SpanBERT spans is a method a row; what stands here follows it step by step,
tightly, without what does not belong to it (words, batching, tokenizers).
"""

import numpy as np
import pytest
import torch
from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices

from benchmarks.conftest import Race
from sslkernels.masking import geometric_span_groups, span_corruption, span_mask

VOCABULARY, SENTINEL = 32100, 32099


# -- T5 ------------------------------------------------------------------------------------------------------


def t5_noise_mask(length: int, density: float, mean_span: float, random: np.random.Generator) -> np.ndarray:
    """random_spans_noise_mask of text-to-text-transfer-transformer."""
    noise = min(max(round(length * density), 1), length - 1)
    spans = min(max(round(noise / mean_span), 1), min(noise, length - noise))

    def segments(items: int) -> np.ndarray:
        first = np.arange(items - 1) < spans - 1
        random.shuffle(first)
        number = np.cumsum(np.concatenate([[False], first]))
        return np.unique(number, return_counts=True)[1]

    sizes = np.stack([segments(length - noise), segments(noise)], axis=1).ravel()
    starts = np.cumsum(sizes)[:-1]
    begins = np.zeros(length, dtype=np.int8)
    begins[starts] = 1
    return np.cumsum(begins) % 2 == 1


def t5_sentinels(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Each run of the mask becomes one sentinel; the same for all rows at once."""
    begins = mask & ~np.concatenate([np.zeros_like(mask[:, :1]), mask[:, :-1]], axis=1)
    numbers = np.cumsum(begins, axis=1)
    kept = np.where(begins, SENTINEL + 1 - numbers, ids)
    return kept[begins | ~mask].reshape(len(ids), -1)  # as many in every row, since all are as long


def t5_targets(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A sentinel goes before each run of the mask."""
    begins = mask & ~np.concatenate([np.zeros_like(mask[:, :1]), mask[:, :-1]], axis=1)
    numbers = np.cumsum(begins, axis=1)
    pairs = np.stack([SENTINEL + 1 - numbers, ids], axis=2)
    return pairs[np.stack([begins, mask], axis=2)].reshape(len(ids), -1)


def t5(ids: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    mask = np.stack([t5_noise_mask(ids.shape[1], 0.15, 3.0, random) for _ in ids])
    return t5_sentinels(ids, mask), t5_targets(ids, mask)


def tight_t5(ids: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The same in tight NumPy: the cuts of all rows at once, by a partial sort of random numbers."""
    rows, length = ids.shape
    noise = round(length * 0.15)
    spans = round(noise / 3.0)

    def sizes(items: int) -> np.ndarray:
        random_order = np.argpartition(random.random((rows, items - 1), dtype=np.float32), spans - 2, axis=1)
        edges = np.zeros((rows, spans + 1), dtype=np.int64)
        edges[:, 1:-1] = np.sort(random_order[:, : spans - 1], axis=1) + 1
        edges[:, -1] = items
        return np.diff(edges, axis=1)

    starts = np.stack([sizes(length - noise), sizes(noise)], axis=2).reshape(rows, -1).cumsum(1)[:, :-1]
    begins = np.zeros(ids.shape, dtype=np.int8)
    begins[np.arange(rows)[:, None], starts] = 1
    mask = np.cumsum(begins, axis=1) % 2 == 1
    return t5_sentinels(ids, mask), t5_targets(ids, mask)


def test_t5(race: Race, threads: int) -> None:
    generator, random = torch.Generator().manual_seed(0), np.random.default_rng(0)
    ids = torch.randint(0, VOCABULARY - 100, (256, 512), generator=generator)
    lengths, array = torch.full((256,), 512), ids.numpy()
    for peer in (t5, tight_t5):
        assert [part.shape for part in peer(array, random)] == [(256, 461), (256, 103)]
    race(
        f"T5 span corruption b=256 l=512 threads={threads}",
        lambda: span_corruption(ids, lengths, sentinel_start=SENTINEL, seed=1),
        {
            "released method (NumPy)": lambda: t5(array, random),
            "tight NumPy": lambda: tight_t5(array, random),
        },
        floor={"released method (NumPy)": 100},
    )


# -- SpanBERT ------------------------------------------------------------------------------------------------

LENGTHS = np.arange(1, 11)
CHANCES = 0.2 * 0.8 ** (LENGTHS - 1)
CHANCES = CHANCES / CHANCES.sum()


def spanbert_spans(length: int) -> tuple[set[int], list[tuple[int, int]]]:
    """The geometric span scheme of SpanBERT, a token a word: draw a length and an anchor, walk on from it
    until the length or the budget is reached, and skip what is masked already."""
    budget = int(np.ceil(length * 0.15 - 1e-6))
    masked: set[int] = set()
    spans: list[list[int]] = []
    while len(masked) < budget:
        span = np.random.choice(LENGTHS, p=CHANCES)
        anchor = np.random.choice(length)
        if anchor in masked:
            continue
        at = anchor
        spans.append([at, at])
        while at - anchor < span and at < length and len(masked) < budget:
            masked.add(at)
            spans[-1][1] = at
            at += 1
    spans.sort()
    merged: list[tuple[int, int]] = []
    for low, high in spans:
        if merged and low <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return masked, merged


def tight_spanbert(length: int, random: np.random.Generator) -> np.ndarray:
    """The same in tight NumPy: lengths drawn at once, anchors too, and a row of flags."""
    budget, left = int(np.ceil(length * 0.15 - 1e-6)), 0
    groups = np.full(length, -1, dtype=np.int32)
    spans = np.searchsorted(CHANCES.cumsum(), random.random(budget)).tolist()
    anchors = random.integers(0, length, 2 * budget).tolist()
    left, number = budget, 0
    for span, anchor in zip(spans, anchors, strict=False):
        span = min(span + 1, left, length - anchor)
        if (groups[anchor : anchor + span] >= 0).any():
            continue
        groups[anchor : anchor + span] = number
        number += 1
        left -= span
        if left == 0:
            break
    return groups


@pytest.mark.parametrize("batch", [32, 256])
def test_spanbert(race: Race, threads: int, batch: int) -> None:
    lengths, random = torch.full((batch,), 512), np.random.default_rng(0)
    np.random.seed(0)
    assert len(spanbert_spans(512)[0]) == 77
    race(
        f"SpanBERT spans b={batch} l=512 threads={threads}",
        lambda: geometric_span_groups(lengths, 512, seed=1),
        {
            "released method (NumPy)": lambda: [spanbert_spans(512) for _ in range(batch)],
            "tight NumPy": lambda: [tight_spanbert(512, random) for _ in range(batch)],
        },
        floor={"released method (NumPy)": 60},
    )


# -- wav2vec 2.0 ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", ["full", "mixed"])
def test_wav2vec2(race: Race, threads: int, lengths: str) -> None:
    rows = torch.full((32,), 1500)
    attention = None
    if lengths == "mixed":
        rows = torch.randint(300, 1501, (32,), generator=torch.Generator().manual_seed(0))
        attention = (torch.arange(1500) < rows[:, None]).long()
    np.random.seed(0)
    race(
        f"wav2vec 2.0 spans b=32 t=1500 lengths={lengths} threads={threads}",
        lambda: span_mask(rows, 1500, rate=0.65, span=10, seed=1),
        {"transformers": lambda: _compute_mask_indices((32, 1500), 0.65, 10, attention_mask=attention)},
        floor={"transformers": 5},
    )
