"""Spans: how many, where they may lie, their numbers, and T5's outputs; field cases of other packages."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import sslkernels
from sslkernels.masking import corrupt_tokens, geometric_span_groups, span_corruption, span_mask

SENTINEL = 32099
MANY = 3000


def runs(row: Tensor) -> list[tuple[int, int]]:
    """(begin, end) of each stretch of True."""
    edges = torch.nn.functional.pad(row.int(), (1, 1)).diff()
    begins, ends = ((edges == sign).nonzero().flatten().tolist() for sign in (1, -1))
    return list(zip(begins, ends, strict=True))


# -- span_mask -----------------------------------------------------------------------------------------------


def test_exactly_one_place_for_a_span() -> None:
    """datasets #3640, transformers #15366: where one start exists there is one span, whatever is asked."""
    for rate in (0.65, 0.0, 100.0):
        mask = span_mask([10], max_length=10, rate=rate, span=10, min_spans=2, seed=1)
        assert mask.dtype == torch.bool
        assert mask.all()


@pytest.mark.parametrize("length", range(15))
def test_starts_never_outnumber_places(length: int) -> None:
    """Neighbours of the case above: every length around that of a span, a minimum above what fits."""
    mask = span_mask(torch.full((200,), length), 16, rate=0.1, span=6, min_spans=50, seed=2)
    assert not mask[:, length:].any()
    assert mask[:, :length].all() == (length >= 6 or length == 0)
    assert mask[:, :length].any() == (length >= 6)


def test_short_rows_next_to_long_ones() -> None:
    """espnet #6627: spans were drawn in the padding, and short utterances got few or none."""
    mask = span_mask(torch.tensor([1000, 50]).repeat(MANY), 1000, rate=0.65, span=10, seed=3)
    short = mask[1::2]
    assert not short[:, 50:].any()
    masked = short.sum(1).double()
    assert masked.min() >= 12  # three starts that overlap almost wholly
    assert masked.max() <= 40  # four that do not
    assert abs(masked.mean() - 25.5) < 0.25
    alone = span_mask(torch.full((MANY,), 50), 50, seed=3, sample_ids=torch.arange(1, 2 * MANY, 2))
    assert torch.equal(short[:, :50], alone)


def test_number_of_spans_is_rounded_by_chance() -> None:
    """Spans of one position show how many were drawn: floor(rate * length + eps)."""
    for rate, length, low in ((0.65, 50, 32.5), (0.31, 10, 3.1), (0.999, 7, 6.993)):
        drawn = span_mask(torch.full((MANY,), length), length, rate=rate, span=1, seed=4).sum(1).double()
        assert set(drawn.tolist()) == {math.floor(low), math.floor(low) + 1}
        share = low - math.floor(low)
        assert abs(drawn.mean() - low) < 4 * math.sqrt(share * (1 - share) / MANY)


@pytest.mark.parametrize(
    ("rate", "length", "spans"), [(0.29, 100, 29), (0.57, 100, 57), (0.07, 300, 21), (1.1, 10, 10)]
)
def test_ratios_that_are_no_binary_fraction(rate: float, length: int, spans: int) -> None:
    """.29 * 100 is 28.999999999999996: the number is 29 in every row, not 28 in one."""
    mask = span_mask(torch.full((MANY,), length), length, rate=rate, span=1, seed=5)
    assert (mask.sum(1) == spans).all()


def test_starts_differ() -> None:
    """fairseq #752, electra #41: drawn with replacement, fewer were masked than asked."""
    mask = span_mask(torch.full((MANY,), 30), 30, rate=0.0, span=1, min_spans=15, seed=6)
    assert (mask.sum(1) == 15).all()
    everything = span_mask(torch.full((50,), 64), 64, rate=1.0, span=1, seed=6)
    assert everything.all()


def test_spans_are_whole() -> None:
    mask = span_mask(torch.full((MANY,), 60), 60, rate=0.3, span=7, seed=7)
    sizes = [end - begin for row in mask for begin, end in runs(row)]
    assert min(sizes) == 7


@pytest.mark.parametrize("rate", [1e9, 1e300, 1.7e308])
def test_a_huge_rate_masks_everything(rate: float) -> None:
    assert span_mask([5, 64], 64, rate=rate, span=2, seed=1)[1].all()


def test_nothing_to_mask() -> None:
    assert not span_mask([9, 64], 64, rate=0.0).any()  # draws nothing: no seed is needed
    assert span_mask([0, 0], 0, seed=1).shape == (2, 0)
    assert span_mask(torch.zeros(0, dtype=torch.int64), 7, seed=1).shape == (0, 7)
    assert not span_mask([64], 64, span=65, rate=5.0, min_spans=3, seed=1).any()
    assert not span_mask([64], 64, span=2**62, seed=1).any()


def test_realised_rate() -> None:
    lengths = torch.tensor([1000, 50, 9, 0], dtype=torch.int32)
    mask, rate = span_mask(lengths, 1000, return_rate=True, seed=8)
    assert rate.dtype == torch.float32
    assert rate.tolist() == [
        np.float32(int(mask[0].sum()) / 1000),
        np.float32(int(mask[1].sum()) / 50),
        0.0,
        0.0,
    ]
    _, rates = span_mask(torch.full((500,), 1000), 1000, rate=0.65, span=10, return_rate=True, seed=8)
    assert abs(rates.mean() - 0.49) < 0.01  # below .65, because spans overlap


# -- geometric_span_groups -----------------------------------------------------------------------------------


def assert_groups(groups: Tensor, lengths: list[int], budget: float, max_span: int) -> None:
    assert groups.dtype == torch.int32
    for row, length in zip(groups, lengths, strict=True):
        inside = row >= 0
        assert int(inside.sum()) == max(0, math.ceil(budget * length - 1e-6))
        assert not inside[length:].any()
        numbers = row[inside].long()
        assert numbers.tolist() == sorted(numbers.tolist())
        sizes = torch.bincount(numbers)
        assert not len(sizes) or (sizes.min() >= 1 and sizes.max() <= max_span)
        for number in range(len(sizes)):
            places = (row == number).nonzero().flatten()
            assert int(places[-1] - places[0]) + 1 == len(places)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=5),
    st.floats(0, 1),
    st.floats(0.01, 1),
    st.integers(1, 70),
    st.integers(0, 2**63 - 1),
)
def test_groups_fill_the_budget(
    lengths: list[int], budget: float, p: float, max_span: int, seed: int
) -> None:
    groups = geometric_span_groups(lengths, 61, p=p, max_span=max_span, budget=budget, seed=seed)
    assert_groups(groups, lengths, budget, max_span)


@pytest.mark.parametrize(
    ("budget", "length", "hidden"),
    [
        (0.15, 100, 15),
        (0.15, 512, 77),
        (0.15, 20, 3),
        (0.07, 100, 7),
        (0.29, 100, 29),
        (1.0, 33, 33),
        (0.15, 1, 1),
    ],
)
def test_budget_is_exact(budget: float, length: int, hidden: int) -> None:
    """.07 * 100 is 7.000000000000001 and .15 * 20 just 3: neither is rounded up by its last bit."""
    groups = geometric_span_groups(torch.full((50,), length), length, budget=budget, seed=1)
    assert ((groups >= 0).sum(1) == hidden).all()


def test_spans_may_touch_but_not_overlap() -> None:
    groups = geometric_span_groups(torch.full((300,), 100), 100, budget=0.5, seed=2)
    assert_groups(groups, [100] * 300, 0.5, 10)
    touching = (groups[:, 1:] == groups[:, :-1] + 1) & (groups[:, :-1] >= 0)
    assert touching.any()


def test_one_action_a_span() -> None:
    """OpinioNet #2: half a word masked, half replaced."""
    ids = torch.randint(10, 1000, (64, 200), generator=torch.Generator().manual_seed(0))
    groups = geometric_span_groups(torch.full((64,), 200), 200, seed=3)
    result = corrupt_tokens(
        ids,
        groups=groups,
        rate=1.0,
        mask_id=4,
        vocab_size=1000,
        special_ids=range(10),
        exclude_original=True,
        seed=3,
    )
    assert torch.equal(result.selected, groups >= 0)
    kinds = torch.where(result.ids == 4, 0, torch.where(result.ids == ids, 2, 1))
    seen = set()
    for row in range(64):
        for number in range(int(groups[row].max()) + 1):
            kind = set(kinds[row][groups[row] == number].tolist())
            assert len(kind) == 1
            seen |= kind
    assert seen == {0, 1, 2}


# -- span_corruption -----------------------------------------------------------------------------------------


def merge(inputs: list[int], targets: list[int], sentinels: set[int]) -> list[int]:
    """Each sentinel of the inputs gives way to what follows the same one in the targets."""
    spans: dict[int, list[int]] = {}
    for token in targets:
        if token in sentinels:
            current = spans.setdefault(token, [])
            assert not current, "a sentinel comes twice"
        else:
            current.append(token)
    merged: list[int] = []
    for token in inputs:
        merged += spans.pop(token) if token in sentinels else [token]
    assert not spans, "a span of the targets has no place in the inputs"
    return merged


def unpadded(rows: Tensor, lengths: Tensor) -> list[list[int]]:
    return [row[:length].tolist() for row, length in zip(rows, lengths.tolist(), strict=True)]


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=6),
    st.floats(0, 1),
    st.floats(0.3, 20),
    st.booleans(),
    st.integers(0, 2**63 - 1),
)
def test_merging_gives_the_ids_back(
    lengths: list[int], density: float, mean_span: float, ends: bool, seed: int
) -> None:
    ids = torch.arange(1, 51).repeat(len(lengths), 1)
    inputs, input_lengths, targets, target_lengths = span_corruption(
        ids, torch.tensor(lengths), noise_density=density, mean_span=mean_span,
        sentinel_start=199, eos_id=77 if ends else None, pad_id=-9, seed=seed,
    )  # fmt: skip
    assert input_lengths.dtype == target_lengths.dtype == torch.int64
    assert inputs.shape[1] == input_lengths.max()
    assert targets.shape[1] == target_lengths.max()
    for rows, sizes in ((inputs, input_lengths), (targets, target_lengths)):
        behind = torch.arange(rows.shape[1]) >= sizes[:, None]
        assert (rows[behind] == -9).all()
        assert not (rows[~behind] == -9).any()
    sentinels = set(range(100, 200))
    texts = zip(unpadded(inputs, input_lengths), unpadded(targets, target_lengths), lengths, strict=True)
    for source, target, length in texts:
        if ends:
            assert source.pop() == target.pop() == 77
        assert merge(source, target, sentinels) == list(range(1, length + 1))
        if length < 2:
            assert not target
            continue
        noise = min(max(round(density * length), 1), length - 1)
        spans = min(max(round(noise / mean_span), 1), min(noise, length - noise))
        expected = list(range(199, 199 - spans, -1))
        assert [token for token in source if token in sentinels] == expected
        assert [token for token in target if token in sentinels] == expected
        assert len(target) == noise + spans
        assert len(source) == length - noise + spans
        assert source[0] == 1  # starts with a kept stretch
        assert source[-1] == expected[-1]  # ends in noise
        gaps = [place for place, token in enumerate(source) if token in sentinels]
        assert all(right - left > 1 for left, right in itertools.pairwise(gaps))


@pytest.mark.parametrize(("eos_id", "lengths"), [(None, (18, 20)), (1, (19, 21))])
def test_more_spans_than_kept_tokens(eos_id: int | None, lengths: tuple[int, int]) -> None:
    """transformers #22246, #22938: 11 noise tokens and 9 kept ones gave arrays of unequal length."""
    ids = torch.arange(100, 120).repeat(50, 1)
    inputs, input_lengths, targets, target_lengths = span_corruption(
        ids,
        torch.full((50,), 20),
        noise_density=0.55,
        mean_span=1,
        sentinel_start=SENTINEL,
        eos_id=eos_id,
        seed=1,
    )
    assert (input_lengths == lengths[0]).all()
    assert (target_lengths == lengths[1]).all()
    assert ((inputs <= SENTINEL) & (inputs > SENTINEL - 9)).sum(1).eq(9).all()
    assert ((targets <= SENTINEL) & (targets > SENTINEL - 9)).sum(1).eq(9).all()


def test_short_rows_look_one_sided() -> None:
    """text-to-text-transfer-transformer #905: one span ends the row, in every sample; that is the formula."""
    ids = torch.arange(1, 21).repeat(200, 1)
    inputs, _, targets, _ = span_corruption(ids, torch.full((200,), 20), sentinel_start=SENTINEL, seed=2)
    assert (inputs == torch.tensor([*range(1, 18), SENTINEL])).all()
    assert (targets == torch.tensor([SENTINEL, 18, 19, 20])).all()


def test_sentinels_descend_in_both_outputs() -> None:
    """transformers #14282, UIE #45: ascending in one place, descending in another."""
    ids = torch.arange(1, 101)[None]
    inputs, _, targets, _ = span_corruption(ids, torch.tensor([100]), sentinel_start=SENTINEL, seed=3)
    expected = [SENTINEL - number for number in range(5)]
    for row in (inputs[0], targets[0]):
        assert [token for token in row.tolist() if token > 1000] == expected


def test_halves_round_to_even() -> None:
    def counts(length: int, density: float, mean_span: float) -> tuple[int, int]:
        ids = torch.zeros((1, length), dtype=torch.int64)
        found = span_corruption(
            ids,
            torch.tensor([length]),
            noise_density=density,
            mean_span=mean_span,
            sentinel_start=999,
            seed=1,
        )
        spans = int((found[2] > 900).sum())
        return int(found[3]) - spans, spans

    assert counts(10, 0.25, 1.0) == (2, 2)
    assert counts(14, 0.25, 1.0) == (4, 4)
    assert counts(100, 0.25, 10.0) == (25, 2)
    assert counts(100, 0.35, 10.0) == (35, 4)
    assert counts(100, 0.0, 3.0) == (1, 1)
    assert counts(100, 1.0, 3.0) == (99, 1)
    assert counts(2, 0.5, 3.0) == (1, 1)


def test_rows_that_pass_through() -> None:
    ids = torch.tensor([[5, 6], [7, 8]])
    inputs, input_lengths, targets, target_lengths = span_corruption(
        ids, torch.tensor([1, 0]), sentinel_start=9, pad_id=3, seed=1
    )
    assert inputs.tolist() == [[5], [3]]
    assert input_lengths.tolist() == [1, 0]
    assert targets.shape == (2, 0)
    assert target_lengths.tolist() == [0, 0]
    inputs, _, targets, lengths = span_corruption(
        ids, torch.tensor([1, 0]), sentinel_start=9, eos_id=4, pad_id=3, seed=1
    )
    assert inputs.tolist() == [[5, 4], [4, 3]]
    assert targets.tolist() == [[4], [4]]
    assert lengths.tolist() == [1, 1]


def test_sentinels_may_reach_zero() -> None:
    ids = torch.arange(10, 50)[None]
    exact = {"noise_density": 0.5, "mean_span": 2, "seed": 1}  # ten spans
    inputs = span_corruption(ids, torch.tensor([40]), sentinel_start=9, **exact)[0]
    assert [token for token in inputs[0].tolist() if token < 10] == list(range(9, -1, -1))
    with pytest.raises(ValueError, match="sentinel_start must be at least 9"):
        span_corruption(ids, torch.tensor([40]), sentinel_start=8, **exact)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_sentinels_may_start_at_the_largest_id(backend: str, dtype: torch.dtype) -> None:
    last = torch.iinfo(dtype).max
    with sslkernels.use(backend):
        inputs = span_corruption(
            torch.arange(20, dtype=dtype)[None], [20], mean_span=1, sentinel_start=last, seed=1
        )[0]
    assert [token for token in inputs[0].tolist() if token > 20] == [last, last - 1, last - 2]


def test_ids_keep_their_dtype_and_strides_do_not_matter() -> None:
    ids = torch.arange(400, dtype=torch.int32).reshape(40, 10)
    before, lengths = ids.clone(), torch.full((10,), 40, dtype=torch.int32)
    found = span_corruption(ids.T, lengths, sentinel_start=SENTINEL, seed=1)
    plain = span_corruption(ids.T.long().contiguous(), lengths.long(), sentinel_start=SENTINEL, seed=1)
    assert found[0].dtype == found[2].dtype == torch.int32
    assert all(torch.equal(left.long(), right) for left, right in zip(found, plain, strict=True))
    assert torch.equal(ids, before)


@pytest.mark.parametrize("length", [2, 3, 4, 31, 32, 33, 34, 63, 64, 65, 66, 127, 128, 129, 130, 1000, 5000])
def test_lengths_around_those_of_words_and_copies(length: int) -> None:
    """Bits come 64 a word, words 64 a vector of draws, ids 8 and 32 a copy: rows next to one another."""
    ids = torch.arange(3 * length).reshape(3, length)
    for density, mean_span in ((0.15, 3.0), (0.5, 1.0), (0.9, 40.0), (0.02, 1.0)):
        inputs, input_lengths, targets, target_lengths = span_corruption(
            ids, torch.full((3,), length), noise_density=density, mean_span=mean_span,
            sentinel_start=10**9, pad_id=-1, seed=length,
        )  # fmt: skip
        sentinels = set(range(10**9 - length, 10**9 + 1))
        texts = zip(unpadded(inputs, input_lengths), unpadded(targets, target_lengths), strict=True)
        assert [merge(*text, sentinels) for text in texts] == ids.tolist()
