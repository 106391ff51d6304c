"""corrupt_tokens: what is selected, how it is corrupted, what the labels say."""

import itertools

import pytest
import torch
from torch import Tensor

import sslkernels
from sslkernels import _random
from sslkernels.masking import Corruption, corrupt_tokens

SPECIAL = (0, 1, 2, 3)
MLM = {"mask_id": 3, "vocab_size": 50, "special_ids": SPECIAL, "seed": 11}


def tokens(b: int = 64, length: int = 96, v: int = 50, low: int = 0, seed: int = 0) -> Tensor:
    return torch.randint(low, v, (b, length), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True, params=["cpu", "reference"])
def backend(request: pytest.FixtureRequest):
    with sslkernels.use(request.param):
        yield request.param


def is_special(ids: Tensor, special: tuple[int, ...] = SPECIAL) -> Tensor:
    return torch.isin(ids, torch.tensor(special))


# -- what is eligible ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_rates_of_none_and_all(rate: float) -> None:
    """A 32-bit threshold cannot hold 2^32: rate 1 must select every eligible token."""
    ids = tokens()
    result = corrupt_tokens(ids, rate=rate, **MLM)
    assert torch.equal(result.selected, ~is_special(ids) if rate else torch.zeros_like(ids, dtype=torch.bool))
    assert torch.equal(result.labels, torch.where(result.selected, ids, -100))
    rows = corrupt_tokens(ids, rate=torch.full((64,), rate), **MLM)
    assert torch.equal(rows.selected, result.selected)


def test_special_ids_in_any_order_repeated_and_outside() -> None:
    ids = tokens(v=60)
    given = (3, 7, -5, 3, 200, 0, 1, 2, 55, 54, 7)
    result = corrupt_tokens(ids, rate=1.0, mask_id=3, vocab_size=60, special_ids=given, seed=1)
    assert torch.equal(result.selected, ~is_special(ids, given))
    ids[0, 0], ids[0, 1] = -5, 200  # special ids may lie outside the vocabulary
    assert (
        not corrupt_tokens(ids, rate=1.0, mask_id=3, vocab_size=60, special_ids=given, seed=1)
        .selected[0, :2]
        .any()
    )


@pytest.mark.parametrize("outlier", [None, 2**40, -(2**50)])
def test_many_scattered_special_ids(outlier: int | None) -> None:
    """More ranges than are compared one by one, and ids that need more than 32 bits."""
    ids = tokens(v=500)
    if outlier is not None:
        ids[3, 5] = outlier
    special = (*range(0, 500, 3), 2**40)
    result = corrupt_tokens(ids, rate=1.0, mix=(0, 0, 1), special_ids=special)
    assert torch.equal(result.selected, ~is_special(ids, special))


def test_maskable_alone_decides() -> None:
    ids = tokens()
    maskable = torch.rand(ids.shape, generator=torch.Generator().manual_seed(1)) < 0.5
    result = corrupt_tokens(ids, rate=1.0, maskable=maskable, **MLM)
    assert torch.equal(result.selected, maskable)  # a special token that is maskable, too


def test_no_eligible_token() -> None:
    ids = torch.zeros(3, 8, dtype=torch.int64)
    result = corrupt_tokens(ids, rate=1.0, min_selected=4, capacity=2, **MLM)
    assert not result.selected.any()
    assert (result.labels == -100).all()
    assert torch.equal(result.ids, ids)
    assert result.counts.tolist() == [0, 0, 0]
    assert (result.positions == -1).all()


@pytest.mark.parametrize("shape", [(0, 5), (4, 0), (0, 0)])
def test_empty(shape: tuple[int, int]) -> None:
    ids = torch.zeros(shape, dtype=torch.int64)
    result = corrupt_tokens(ids, capacity=3, groups=ids, min_selected=2, **MLM)
    assert result.ids.shape == result.labels.shape == result.selected.shape == shape
    assert result.positions.tolist() == [[-1, -1, -1]] * shape[0]
    assert result.counts.tolist() == [0] * shape[0]


def test_one_eligible_token_is_found() -> None:
    ids = torch.zeros(5, 7, dtype=torch.int64)
    ids[:, 4] = 9
    result = corrupt_tokens(ids, rate=0.0, min_selected=3, **MLM)
    assert result.selected.nonzero()[:, 1].tolist() == [4] * 5
    assert result.labels[:, 4].tolist() == [9] * 5


def test_label_zero_is_a_label() -> None:
    """An id of 0 is not "no label"."""
    ids = torch.zeros(2, 50, dtype=torch.int64)
    result = corrupt_tokens(ids, rate=0.5, mask_id=3, vocab_size=50, seed=3)
    assert (result.labels[result.selected] == 0).all()
    assert (result.labels[~result.selected] == -100).all()
    assert result.selected.any()


# -- how many ----------------------------------------------------------------------------------------------


def test_topped_up_without_replacement() -> None:
    """fairseq #752, electra #41: positions drawn with replacement mask fewer than asked."""
    ids = tokens(b=200, length=100, low=4)
    result = corrupt_tokens(ids, rate=0.0, min_selected=15, **MLM)
    assert (result.selected.sum(1) == 15).all()


def test_top_up_to_a_number_a_row_as_far_as_units_go() -> None:
    ids = tokens(b=6, length=40, low=4)
    least = torch.tensor([0, 1, 7, 40, 41, 1000])
    result = corrupt_tokens(ids, rate=0.0, min_selected=least, **MLM)
    assert result.selected.sum(1).tolist() == [0, 1, 7, 40, 40, 40]
    drawn = corrupt_tokens(ids, rate=0.3, **MLM).selected
    topped = corrupt_tokens(ids, rate=0.3, min_selected=12, **MLM).selected
    assert (topped | ~drawn).all()  # who was drawn stays
    assert torch.equal(topped.sum(1), drawn.sum(1).clamp(min=12))


@pytest.mark.parametrize("capacity", [0, 1, 5, 200])
def test_capacity(capacity: int) -> None:
    result = corrupt_tokens(tokens(b=9), rate=0.2, capacity=capacity, **MLM)
    assert result.positions.dtype == result.counts.dtype == torch.int32
    for row, positions, count in zip(result.selected, result.positions, result.counts, strict=True):
        expected = row.nonzero().flatten().tolist()
        assert count == len(expected)
        listed = expected[:capacity]
        assert positions.tolist() == listed + [-1] * (capacity - len(listed))


# -- what a selected token becomes -------------------------------------------------------------------------


def changes(ids: Tensor, result: Corruption) -> tuple[Tensor, Tensor]:
    """Masked and otherwise changed places; what is not selected must not change."""
    assert torch.equal(result.ids[~result.selected], ids[~result.selected])
    masked = result.selected & (result.ids == 3)
    return masked, result.selected & ~masked & (result.ids != ids)


def test_shares_are_of_the_selected() -> None:
    """transformers #21803, #17377: read as a share of what the first draw left over."""
    ids = tokens(b=400, low=4)
    result = corrupt_tokens(ids, rate=0.5, mix=(0.5, 0.25, 0.25), exclude_original=True, **MLM)
    masked, replaced = changes(ids, result)
    chosen = int(result.selected.sum())
    assert abs(int(masked.sum()) / chosen - 0.5) < 0.02
    assert abs(int(replaced.sum()) / chosen - 0.25) < 0.02


@pytest.mark.parametrize(
    "mix", [(0.7, 0.3, 0.0), (0.1, 0.9, 0.0), (1.0, 0.0, 0.0), (0.3333333, 0.6666666, 0.0)]
)
def test_a_share_of_zero_never_happens(mix: tuple[float, float, float]) -> None:
    """Shares that sum to 1 only nearly (1 - 1e-16, or within the tolerance) leave nothing over."""
    ids = tokens(b=300, low=4)
    result = corrupt_tokens(ids, rate=1.0, mix=mix, exclude_original=True, **MLM)
    assert (result.ids != ids).all()
    if mix[1] == 0:
        assert (result.ids == 3).all()


def test_random_ids_are_ordinary() -> None:
    """transformers #15342: the padding id came out as a random word."""
    ids = tokens(b=500, low=4)
    common = {"rate": 1.0, "mix": (0, 1, 0), "vocab_size": 50, "seed": 5}
    excluded = corrupt_tokens(ids, special_ids=(0,), **common).ids
    assert excluded.min() == 1
    assert len(excluded.unique()) == 49
    assert len(corrupt_tokens(ids, special_ids=(), **common).ids.unique()) == 50


@pytest.mark.parametrize("special", [(), (0, 1), (9,), tuple(range(0, 10, 2)), tuple(range(1, 10))])
def test_exclude_original(special: tuple[int, ...]) -> None:
    ids = tokens(b=50, v=10)
    result = corrupt_tokens(
        ids,
        rate=1.0,
        mix=(0, 1, 0),
        vocab_size=10,
        special_ids=special,
        maskable=torch.ones_like(ids, dtype=torch.bool),
        exclude_original=True,
        labels="changed",
        seed=2,
    )
    assert not is_special(result.ids, special).any() or len(special) == 9
    if len(special) == 9:  # only id 0 can be drawn: a token that is 0 stays
        assert (result.ids == 0).all()
    else:
        assert (result.ids != ids).all()
    assert torch.equal(result.labels, (result.ids != ids).long())


def test_labels() -> None:
    ids = tokens(b=100)
    common = {**MLM, "rate": 0.3, "mix": (0.4, 0.3, 0.3)}
    eligible = ~is_special(ids)
    original = corrupt_tokens(ids, labels="original", **common)
    selected = corrupt_tokens(ids, labels="selected", **common)
    changed = corrupt_tokens(ids, labels="changed", ignore_index=-7, **common)
    assert torch.equal(original.ids, selected.ids)
    assert torch.equal(original.ids, changed.ids)
    assert torch.equal(original.labels, torch.where(original.selected, ids, -100))
    assert torch.equal(selected.labels, torch.where(eligible, original.selected.long(), -100))
    assert torch.equal(changed.labels, torch.where(eligible, (original.ids != ids).long(), -7))
    assert (changed.labels[original.selected] == 0).any()  # kept, or replaced by itself: not a change


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_dtype_and_inputs_are_kept(dtype: torch.dtype) -> None:
    ids = tokens().to(dtype)
    before = ids.clone()
    result = corrupt_tokens(ids, **MLM)
    wide = corrupt_tokens(ids.long(), **MLM)
    assert result.ids.dtype == dtype
    assert result.labels.dtype == torch.int64
    assert torch.equal(result.ids.long(), wide.ids)
    assert torch.equal(result.labels, wide.labels)
    assert torch.equal(ids, before)


def test_strides_do_not_matter() -> None:
    ids = tokens()
    result = corrupt_tokens(ids.t().contiguous().t(), **MLM)
    assert torch.equal(result.ids, corrupt_tokens(ids, **MLM).ids)


# -- groups --------------------------------------------------------------------------------------------------


def test_groups_share_selection_and_action() -> None:
    """OpinioNet #2: half a word masked, half replaced."""
    ids = tokens(b=200, low=4)
    groups = torch.arange(96).div(4, rounding_mode="floor").expand(200, -1)
    result = corrupt_tokens(ids, rate=0.5, mix=(0.4, 0.3, 0.3), groups=groups, exclude_original=True, **MLM)
    whole = result.selected.view(200, 24, 4)
    assert (whole.all(2) == whole.any(2)).all()
    masked, replaced = (found.view(200, 24, 4) for found in changes(ids, result))
    assert (masked.all(2) == masked.any(2)).all()
    assert (replaced.all(2) == replaced.any(2)).all()
    assert 0.45 < whole.any(2).float().mean() < 0.55
    words = result.ids.view(200, 24, 4)[replaced.all(2)]
    assert (words[:, 0] != words[:, 1]).any()  # a random id is drawn for each token


def test_groups_are_labels() -> None:
    """PyG #31: ids of a whole batch, with gaps; every negative one is left alone."""
    ids = torch.full((4000, 5), 9)
    groups = torch.tensor([5, 2**40 + 5, 5, -5, -100]).expand(4000, -1)
    result = corrupt_tokens(ids, rate=0.5, groups=groups, labels="selected", **MLM)
    chosen = result.selected
    assert torch.equal(chosen[:, 0], chosen[:, 2])
    both = (chosen[:, 0] & chosen[:, 1]).float().mean()
    assert abs(both - 0.25) < 0.03
    assert not chosen[:, 3:].any()
    assert (result.labels[:, 3:] == 0).all()  # still eligible


def test_a_group_starts_at_its_first_eligible_token() -> None:
    """What is not eligible takes no part in a group: the decision is drawn at the first token that is."""
    ids = tokens(b=100, length=6, low=4)
    groups = torch.tensor([1, 1, 1, 2, 2, 2]).expand(100, -1)
    maskable = torch.ones_like(ids, dtype=torch.bool)
    maskable[:, [0, 3]] = False
    result = corrupt_tokens(ids, rate=0.5, groups=groups, maskable=maskable, **MLM)
    alone = corrupt_tokens(ids, rate=0.5, maskable=maskable, **MLM)
    assert not result.selected[:, [0, 3]].any()
    assert torch.equal(result.selected[:, 1], alone.selected[:, 1])
    assert torch.equal(result.selected[:, 2], alone.selected[:, 1])
    assert torch.equal(result.selected[:, 5], alone.selected[:, 4])


def test_singleton_groups_are_tokens() -> None:
    ids = tokens(length=40)
    labels = torch.randperm(40, generator=torch.Generator().manual_seed(3)) * 1000
    grouped = corrupt_tokens(ids, groups=labels.expand(64, -1), min_selected=3, **MLM)
    for left, right in zip(grouped, corrupt_tokens(ids, min_selected=3, **MLM), strict=True):
        assert left is right or torch.equal(left, right)


def test_top_up_counts_groups() -> None:
    ids = tokens(b=50, length=40, low=4)
    groups = torch.arange(40).div(5, rounding_mode="floor").expand(50, -1)
    result = corrupt_tokens(ids, rate=0.0, min_selected=3, groups=groups, **MLM)
    assert (result.selected.sum(1) == 15).all()


def test_groups_of_either_width() -> None:
    ids = tokens()
    groups = torch.randint(-2, 30, ids.shape, generator=torch.Generator().manual_seed(9))
    wide, narrow = (corrupt_tokens(ids, groups=groups.to(kind), **MLM) for kind in (torch.int64, torch.int32))
    assert torch.equal(wide.ids, narrow.ids)


# -- packed and stacked --------------------------------------------------------------------------------------


def test_packed_is_as_each_alone() -> None:
    lengths = [3, 0, 17, 5000, 1, 64]
    ptr = torch.tensor([0, *lengths]).cumsum(0)
    ids = tokens(b=1, length=int(ptr[-1]))[0]
    groups = torch.randint(-1, 20, ids.shape, generator=torch.Generator().manual_seed(2))
    names = torch.tensor([9, -4, 2**60, 1, 0, 77])
    for keywords in ({}, {"groups": groups}, {"min_selected": 4}):
        packed = corrupt_tokens(ids, ptr=ptr, rate=0.3, sample_ids=names, capacity=6, **keywords, **MLM)
        for at, (begin, end) in enumerate(itertools.pairwise(ptr)):
            own = {
                name: value[None, begin:end] if name == "groups" else value
                for name, value in keywords.items()
            }
            alone = corrupt_tokens(
                ids[None, begin:end], rate=0.3, sample_ids=names[at : at + 1], capacity=6, **own, **MLM
            )
            for name in ("ids", "labels", "selected"):
                assert torch.equal(getattr(packed, name)[begin:end], getattr(alone, name)[0]), name
            assert torch.equal(packed.positions[at], alone.positions[0])
            assert packed.counts[at] == alone.counts[0]


def test_stacked_columns() -> None:
    ids = tokens(b=300, length=4, low=4)
    ptr = torch.tensor([0, 100, 100, 300])
    maskable = torch.rand(ids.shape, generator=torch.Generator().manual_seed(4)) < 0.6
    maskable[::5] = False
    result = corrupt_tokens(
        ids,
        ptr=ptr,
        rate=0.5,
        mix=(0.5, 0.5, 0),
        maskable=maskable,
        exclude_original=True,
        capacity=300,
        **MLM,
    )
    rows = result.selected.any(1)
    assert torch.equal(result.selected, rows[:, None] & maskable)  # all eligible columns of a selected row
    assert not rows[~maskable.any(1)].any()
    assert 0.4 < rows[maskable.any(1)].float().mean() < 0.6
    assert result.counts.tolist() == [int(rows[:100].sum()), 0, int(rows[100:].sum())]
    assert result.positions[2, : result.counts[2]].tolist() == rows[100:].nonzero().flatten().tolist()
    assert torch.equal(result.labels, torch.where(result.selected, ids, -100))
    masked, replaced = changes(ids, result)
    assert not (masked.any(1) & replaced.any(1)).any()  # one action a row
    drawn = result.ids[replaced.all(1)]
    assert (drawn[:, 0] != drawn[:, 1]).any()  # and a random id for each column


def test_stacked_rows_in_groups() -> None:
    """Every visit of a node is hidden, in all its columns, or none is."""
    ids = tokens(b=400, length=3, low=4)
    groups = torch.randint(-1, 30, (400,), generator=torch.Generator().manual_seed(6))
    ptr = torch.tensor([0, 150, 400])
    result = corrupt_tokens(
        ids, ptr=ptr, rate=0.5, groups=groups, labels="selected", min_selected=torch.tensor([20, 2]), **MLM
    )
    rows = result.selected.any(1)
    assert torch.equal(result.selected, rows[:, None].expand(-1, 3))
    assert not rows[groups < 0].any()
    assert (result.labels[groups < 0] == 0).all()
    units = 0
    for begin, end in ((0, 150), (150, 400)):
        for group in range(30):
            visits = rows[begin:end][groups[begin:end] == group]
            assert visits.all() or not visits.any()
            units += int(begin == 0 and len(visits) > 0 and bool(visits.all()))
    assert units >= 20
    one = corrupt_tokens(ids[:, :1], ptr=ptr, rate=0.5, **MLM)
    assert torch.equal(one.ids[:, 0], corrupt_tokens(ids[:, 0], ptr=ptr, rate=0.5, **MLM).ids)


def test_a_word_at_the_ends_of_the_generator(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    """The largest word must still give an id inside the vocabulary, the smallest the first one."""
    if backend != "reference":
        pytest.skip("the words of the native kernel cannot be replaced")
    for word, drawn in ((0xFFFFFFFF, 49), (0, 4)):
        monkeypatch.setattr(
            "sslkernels.masking.tokens.reference.draw",
            lambda key, sample, purpose, position, word=word: (
                (torch.full_like(torch.broadcast_tensors(sample, position)[0], word),) * 4
            ),
        )
        result = corrupt_tokens(
            tokens(low=4), rate=1.0, mix=(0, 1, 0), vocab_size=50, special_ids=SPECIAL, seed=1
        )
        assert (result.ids == drawn).all()
    assert _random.bounded(torch.tensor([0xFFFFFFFF]), (1 << 31) - 1).item() == (1 << 31) - 2
