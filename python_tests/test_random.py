"""The Philox twin: published vectors, golden values that freeze the streams, and thresholds at their ends."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_leaves

from sslkernels import _random, _scalars, masking

# Random123 1.14, tests/kat_vectors, philox4x32-10: counter, key, words.
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]

GOLDEN = [
    [3562154724, 3164843138],
    [86351366, 1768763140],
    [1829299453, 1275104810],
    [202634906, 1029087209],
    [1918248084, 2857493409],
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_published_vectors(counter: tuple[int, ...], key: tuple[int, int], words: tuple[int, ...]) -> None:
    c0, c1, c2, c3 = (torch.tensor([word]) for word in counter)
    assert tuple(int(word) for word in _random.philox4x32(key, (c0, c1, c2, c3))) == words


def test_streams_are_frozen() -> None:
    """A change here changes every user's masks and walks: it needs a major version."""
    key = _random.stream_key(seed=(1 << 63) - 1, step=(1 << 40) + 3)
    words = _random.draw(key, torch.tensor([-5, 1 << 40]), _random.PURPOSE.select, torch.tensor([0, 9]))
    assert [word.tolist() for word in (torch.tensor(key), *words)] == GOLDEN


def test_draw_word_takes_four_positions_from_a_call() -> None:
    key, sample = _random.stream_key(1, 2), torch.tensor(3)
    singles = _random.draw_word(key, sample, 7, torch.arange(8))
    calls = torch.stack(_random.draw(key, sample, 7, torch.arange(2)), dim=-1).flatten()
    assert torch.equal(singles, calls)


def test_threshold_is_exact_at_its_ends() -> None:
    assert [_scalars.threshold(p) for p in (0.0, 2.0**-33, 0.15, 1.0)] == [0, 1, 644245094, 1 << 32]


def test_numbers_of_numpy_are_floats() -> None:
    assert _scalars.as_float("rate", np.float32(0.5)) == 0.5
    for wrong in (True, "0.5", None, np.array([0.5]), 0.5j):
        with pytest.raises(TypeError, match="rate must be a float"):
            _scalars.as_float("rate", wrong)
    with pytest.raises(ValueError, match="rate must be a float"):
        _scalars.as_float("rate", 10**400)


def test_bounded_covers_its_range() -> None:
    words = torch.tensor([0, 0xFFFFFFFF])
    assert _random.bounded(words, 7).tolist() == [0, 6]


@pytest.mark.parametrize(("seed", "step", "name"), [(-1, 0, "seed"), (1 << 63, 0, "seed"), (0, -1, "step")])
def test_range_of_seed_and_step(seed: int, step: int, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        _random.require_seed("corrupt_tokens", seed, step)


LENGTHS, IDS = torch.tensor([50, 60]), torch.arange(10).reshape(2, 5)
DRAWS: dict[str, Callable[[int], object]] = {
    "span_mask": lambda seed: masking.span_mask(LENGTHS, 100, seed=seed),
    "geometric_span_groups": lambda seed: masking.geometric_span_groups(LENGTHS, 100, seed=seed),
    "patch_mask": lambda seed: masking.patch_mask(2, (4, 4), 0.5, seed=seed),
    "row_uniform": lambda seed: masking.row_uniform(4, seed=seed),
    "sample_tokens": lambda seed: masking.sample_tokens(IDS.float(), seed=seed),
    "corrupt_tokens": lambda seed: masking.corrupt_tokens(IDS, mask_id=1, vocab_size=10, seed=seed),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_seed_may_be_drawn_in_a_compiled_graph(draw: Callable[[int], object]) -> None:
    """Its value is not known when the graph is traced: the kernel looks at it."""
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda like: draw(torch.ops.sslkernels.fresh_seed(like)), fullgraph=True, backend="aot_eager"
    )
    like = torch.empty((), dtype=torch.int64)
    torch.manual_seed(3)
    found = compiled(like)
    torch.manual_seed(3)
    expected = draw(_random.fresh_seed())
    for one, other in zip(tree_leaves(found), tree_leaves(expected), strict=True):
        assert one is other is None or torch.equal(one, other)


def test_a_missing_seed_is_named() -> None:
    with pytest.raises(ValueError, match="seed"):
        _random.require_seed("corrupt_tokens", None, 0)
    with pytest.raises(TypeError, match="seed"):
        _random.require_seed("corrupt_tokens", 1.5, 0)  # type: ignore[arg-type]
