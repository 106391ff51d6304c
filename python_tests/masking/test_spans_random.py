"""Spans: a row is a function of (seed, step, sample id) and its length, whatever the backend; its law."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import sslkernels
from sslkernels.masking import geometric_span_groups, span_corruption, span_mask

LIMIT = 4.0  # seeds are fixed: a right kernel passes always, and a bias of a few per cent does not


def mask(lengths: Tensor, width: int, **keywords: Any) -> tuple[Tensor, ...]:
    return (span_mask(lengths, width, span=4, rate=0.5, min_spans=1, **keywords),)


def groups(lengths: Tensor, width: int, **keywords: Any) -> tuple[Tensor, ...]:
    return (geometric_span_groups(lengths, width, budget=0.3, **keywords),)


def corrupt(lengths: Tensor, width: int, **keywords: Any) -> tuple[Tensor, ...]:
    ids = torch.arange(1, width + 1).repeat(len(lengths), 1)
    return span_corruption(ids, lengths, noise_density=0.3, sentinel_start=10**6, **keywords)


def rows_of(results: tuple[Tensor, ...], lengths: Tensor) -> list[list[list[int]]]:
    """Each row's results, without padding."""
    found: list[list[list[int]]] = []
    for row, length in enumerate(lengths.tolist()):
        if len(results) == 1:
            assert not (results[0][row, length:] > 0).any()
            found.append([results[0][row, :length].tolist()])
        else:
            inputs, input_lengths, targets, target_lengths = results
            found.append(
                [inputs[row, : input_lengths[row]].tolist(), targets[row, : target_lengths[row]].tolist()]
            )
    return found


CALLS = [mask, groups, corrupt]
NAMES = torch.randint(-(2**63), 2**63 - 1, (40,), generator=torch.Generator().manual_seed(1))
LENGTHS = torch.randint(0, 90, (40,), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("call", CALLS)
def test_independent_of_batch_order_and_padding(call: Callable[..., Any]) -> None:
    """ijepa #60, jepa #50, fairseq #5642: rows that went by the shortest mask of their batch."""
    together = rows_of(call(LENGTHS, 100, seed=5, step=2, sample_ids=NAMES), LENGTHS)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(3))
    shuffled = rows_of(call(LENGTHS[order], 200, seed=5, step=2, sample_ids=NAMES[order]), LENGTHS[order])
    assert shuffled == [together[row] for row in order.tolist()]
    for row in range(40):
        own = LENGTHS[row : row + 1]
        alone = call(own, int(own), seed=5, step=2, sample_ids=NAMES[row : row + 1])
        assert rows_of(alone, own) == [together[row]]


@pytest.mark.parametrize("call", CALLS)
def test_default_samples_are_the_row_numbers(call: Callable[..., Any]) -> None:
    named = call(LENGTHS, 100, seed=5, sample_ids=torch.arange(40))
    assert all(
        torch.equal(left, right) for left, right in zip(call(LENGTHS, 100, seed=5), named, strict=True)
    )


@pytest.mark.parametrize("call", CALLS)
def test_every_part_of_the_key_counts(call: Callable[..., Any]) -> None:
    """Another epoch, rank or seed has other spans: none is blind to the upper halves."""
    lengths = torch.full((40,), 90)
    base: dict = {"seed": 11, "step": 5, "sample_ids": torch.arange(40)}
    changes: list[dict] = [{"seed": 12}, {"seed": 11 + 2**40}, {"step": 6}, {"step": 5 + 2**40}]
    changes += [{"sample_ids": torch.arange(40) + 2**40}, {"sample_ids": torch.arange(40) - 64}]
    first = rows_of(call(lengths, 90, **base), lengths)
    for change in changes:
        other = rows_of(call(lengths, 90, **{**base, **change}), lengths)
        assert sum(left == right for left, right in zip(first, other, strict=True)) == 0


def test_streams_are_frozen() -> None:
    """A change here changes every user's spans: it needs a major version."""
    keywords: dict = {"seed": (1 << 63) - 1, "step": (1 << 40) + 3, "sample_ids": torch.tensor([-5, 1 << 40])}
    starts = span_mask([24, 17], 24, rate=0.4, span=3, **keywords)
    assert ["".join("01"[cell] for cell in row) for row in starts.tolist()] == GOLDEN_MASK
    numbers = geometric_span_groups([24, 17], 24, budget=0.4, **keywords)
    assert ["".join("-0123456789"[cell + 1] for cell in row) for row in numbers.tolist()] == GOLDEN_GROUPS
    ids = torch.arange(48).reshape(2, 24)
    inputs, _, targets, _ = span_corruption(
        ids, torch.tensor([24, 17]), noise_density=0.4, sentinel_start=99, pad_id=-1, **keywords
    )
    assert (inputs.tolist(), targets.tolist()) == GOLDEN_TEXT


GOLDEN_MASK = ["000011100001110011111100", "011100111000111000000000"]
GOLDEN_GROUPS = ["---------000--1111222---", "-0---1----22222---------"]
GOLDEN_TEXT = (
    [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 99, 13, 14, 98, 18, 97],
        [24, 25, 26, 27, 28, 99, 30, 31, 32, 33, 34, 98, -1, -1, -1, -1, -1],
    ],
    [
        [99, 11, 12, 98, 15, 16, 17, 97, 19, 20, 21, 22, 23],
        [99, 29, 98, 35, 36, 37, 38, 39, 40, -1, -1, -1, -1],
    ],
)


# -- equal bits ----------------------------------------------------------------------------------------------


@st.composite
def problems(draw: st.DrawFn) -> tuple[Callable[..., Any], dict]:
    lengths = draw(st.lists(st.integers(0, 70), min_size=0, max_size=6))
    names = draw(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=len(lengths), max_size=len(lengths)))
    dtype = draw(st.sampled_from([torch.int32, torch.int64]))
    keywords: dict = {
        "lengths": torch.tensor(lengths, dtype=dtype),
        "seed": draw(st.integers(0, 2**63 - 1)),
        "step": draw(st.integers(0, 2**63 - 1)),
        "sample_ids": draw(st.sampled_from([None, torch.tensor(names, dtype=torch.int64)])),
    }
    width = max([*lengths, draw(st.integers(0, 80))])
    kind = draw(st.sampled_from([span_mask, geometric_span_groups, span_corruption]))
    if kind is span_corruption:
        generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
        keywords["ids"] = torch.randint(0, 1000, (len(lengths), width), generator=generator, dtype=dtype)
        keywords |= {"noise_density": draw(st.floats(0, 1)), "mean_span": draw(st.floats(0.1, 30))}
        keywords |= {"sentinel_start": draw(st.integers(100, 5000)), "pad_id": draw(st.integers(-9, 9))}
        keywords["eos_id"] = draw(st.none() | st.integers(-9, 9))
        return kind, keywords
    keywords["max_length"] = width
    if kind is span_mask:
        keywords |= {"rate": draw(st.floats(0, 2)), "span": draw(st.integers(1, 75))}
        keywords["min_spans"] = draw(st.integers(0, 5) | st.just(2**40))
    else:
        keywords |= {"p": draw(st.floats(0.001, 1)), "max_span": draw(st.integers(1, 80))}
        keywords["budget"] = draw(st.floats(0, 1))
    return kind, keywords


def on(backend: str, kind: Callable[..., Any], keywords: dict) -> tuple[Tensor, ...]:
    with sslkernels.use(backend):
        results = kind(**keywords)
    return results if isinstance(results, tuple) else (results,)


@settings(max_examples=200, deadline=None)
@given(problems())
def test_native_agrees_with_the_reference(problem: tuple[Callable[..., Any], dict]) -> None:
    for left, right in zip(on("cpu", *problem), on("reference", *problem), strict=True):
        assert left.dtype == right.dtype
        assert torch.equal(left, right)


@settings(max_examples=12, deadline=None)
@given(problems())
def test_triton_agrees(problem: tuple[Callable[..., Any], dict]) -> None:
    """Few: a program takes the interpreter some milliseconds."""
    for left, right in zip(on("cpu", *problem), on("triton", *problem), strict=True):
        assert torch.equal(left, right)


# -- laws ----------------------------------------------------------------------------------------------------


def chi_square(observed: Tensor, expected: Tensor) -> float:
    """How far counts are off, in standard deviations of the statistic's normal limit."""
    statistic = float(((observed - expected) ** 2 / expected).sum())
    freedom = observed.numel() - 1
    return (statistic - freedom) / math.sqrt(2 * freedom)


def assert_law(outcomes: list[Any], chances: dict[Any, float]) -> None:
    places = {outcome: at for at, outcome in enumerate(chances)}
    assert set(outcomes) <= places.keys()
    counts = torch.bincount(torch.tensor([places[outcome] for outcome in outcomes]), minlength=len(places))
    expected = torch.tensor(list(chances.values()), dtype=torch.float64) * len(outcomes)
    assert abs(float(expected.sum()) - len(outcomes)) < 1e-6 * len(outcomes)
    assert chi_square(counts.double(), expected) < LIMIT


def alike(outcomes: Any) -> dict[Any, float]:
    listed = list(outcomes)
    return dict.fromkeys(listed, 1 / len(listed))


def test_sets_of_starts_are_alike() -> None:
    for count, size in ((1, 7), (2, 6), (3, 6), (5, 6)):
        drawn = span_mask(torch.full((20_000,), size), size, rate=0.0, span=1, min_spans=count, seed=count)
        found = [tuple(row.nonzero().flatten().tolist()) for row in drawn]
        assert_law(found, alike(itertools.combinations(range(size), count)))


def test_starts_are_uniform() -> None:
    """ijepa #40: an upper bound left out, and the last place is never taken."""
    drawn = span_mask(torch.full((20_000,), 20), 20, rate=0.0, span=4, min_spans=1, seed=9)
    assert_law(drawn.int().argmax(1).tolist(), alike(range(17)))


def test_neighbouring_rows_are_independent() -> None:
    drawn = span_mask(torch.full((20_001,), 5), 5, rate=0.0, span=1, min_spans=1, seed=10).int().argmax(1)
    assert_law(
        list(zip(drawn[:-1].tolist(), drawn[1:].tolist(), strict=True)),
        alike(itertools.product(range(5), repeat=2)),
    )


def arrangements(spans: tuple[int, ...], kept: int) -> list[tuple[int, ...]]:
    """Rows of span numbers and -1, the spans in order among `kept` positions."""
    rows = []
    for slots in itertools.combinations(range(kept + len(spans)), len(spans)):
        row: list[int] = []
        for slot in range(kept + len(spans)):
            number = slots.index(slot) if slot in slots else -1
            row += [number] * (spans[number] if number >= 0 else 1)
        rows.append(tuple(row))
    return rows


def test_arrangements_of_geometric_spans() -> None:
    """Three of six positions, spans of 1 and 2: the law of every row, written out."""
    p = 0.3
    one = p / (p + p * (1 - p))
    two = 1 - one
    orders = {(1, 1, 1): one * one, (1, 2): (one * two + two) / 2, (2, 1): (one * two + two) / 2}
    chances: dict[Any, float] = {}
    for spans, chance in orders.items():
        for row in (listed := arrangements(spans, 3)):
            chances[row] = chance / len(listed)
    drawn = geometric_span_groups(torch.full((30_000,), 6), 6, p=p, max_span=2, budget=0.5, seed=12)
    assert_law(list(map(tuple, drawn.tolist())), chances)


def test_lengths_are_geometric() -> None:
    """Of a long row, where the one that the budget cuts does not count."""
    drawn = geometric_span_groups(torch.full((20,), 20_000), 20_000, budget=0.3, seed=13)
    sizes = torch.cat([torch.bincount(row[row >= 0].long()) for row in drawn]).tolist()
    weights = {size: 0.8 ** (size - 1) for size in range(1, 11)}
    assert_law(sizes, {size: weight / sum(weights.values()) for size, weight in weights.items()})


def test_a_row_reads_the_same_from_both_ends() -> None:
    """The cut span may stand anywhere: a position is hidden as often as its mirror image."""
    hidden = (
        (geometric_span_groups(torch.full((40_000,), 21), 21, budget=0.33, p=0.1, seed=14) >= 0)
        .sum(0)
        .double()
    )
    left, right = hidden[:10], hidden.flip(0)[:10]
    mean = (left + right) / 2
    spread = (((left - mean) ** 2 + (right - mean) ** 2) / mean).sum()
    assert abs(float(spread) - 10) / math.sqrt(20) < LIMIT


def compositions(total: int, parts: int) -> list[tuple[int, ...]]:
    edges = ([0, *cuts, total] for cuts in itertools.combinations(range(1, total), parts - 1))
    return [tuple(right - left for left, right in itertools.pairwise(edge)) for edge in edges]


def test_compositions_of_corruption() -> None:
    """Kept and noise stretches: every pair of compositions is as likely as another."""
    ids = torch.arange(11).repeat(30_000, 1)
    inputs, _, targets, _ = span_corruption(
        ids, torch.full((30_000,), 11), noise_density=0.45, mean_span=5 / 3, sentinel_start=99, seed=15
    )

    def sizes(row: list[int], ends: bool) -> tuple[int, ...]:
        marks = [at for at, token in enumerate(row) if token > 90]
        edges = [-1, *marks] if ends else [*marks, len(row)]
        return tuple(right - left - 1 for left, right in itertools.pairwise(edges))

    kept, hidden = compositions(6, 3), compositions(5, 3)
    found = [
        (sizes(source, True), sizes(target, False))
        for source, target in zip(inputs.tolist(), targets.tolist(), strict=True)
    ]
    assert_law(found, alike(itertools.product(kept, hidden)))
