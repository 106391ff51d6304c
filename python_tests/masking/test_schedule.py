import math

import pytest
import torch

from sslkernels.masking import mask_rate, row_uniform


def test_the_share_that_is_masked():
    """MaskGIT-pytorch #16: the schedule upside down."""
    u = torch.tensor([0, 0.25, 0.5, 0.75, 1], dtype=torch.float64)
    expected = torch.tensor([1, 0.853553, 0.5, 0.146447, 0], dtype=torch.float64)
    torch.testing.assert_close(mask_rate(u, "cosine"), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(mask_rate(u), 1 - u)
    torch.testing.assert_close(mask_rate(u, "polynomial", power=2.0), 1 - u * u)
    torch.testing.assert_close(mask_rate(u, "fixed", low=0.1, high=0.4), torch.full_like(u, 0.4))
    torch.testing.assert_close(mask_rate(u, low=0.2, high=0.6), 0.2 + 0.4 * (1 - u))
    assert mask_rate(u.float()).dtype == torch.float32
    assert mask_rate(torch.empty(0)).shape == (0,)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        *(({"schedule": "sine"}, "schedule"), ({"power": 0.0}, "power"), ({"power": math.nan}, "power")),
        *(({"low": 0.5, "high": 0.4}, "low"), ({"high": 1.1}, "high"), ({"low": -0.1}, "low")),
    ],
)
def test_bad_arguments_are_named(arguments, word):
    with pytest.raises(ValueError, match=word):
        mask_rate(torch.zeros(2), **arguments)


def test_a_rows_number_is_its_own():
    whole = row_uniform(100, seed=3, step=5)
    assert whole.dtype == torch.float32
    assert torch.equal(row_uniform(1, seed=3, step=5, sample_ids=torch.tensor([42])), whole[42:43])
    assert not torch.equal(row_uniform(100, seed=3, step=6), whole)
    assert not torch.equal(row_uniform(100, seed=4, step=5), whole)
    assert row_uniform(0, seed=1).shape == (0,)
    many = row_uniform(200_000, seed=1)
    assert many.min() >= 0
    assert many.max() < 1
    counts = torch.histc(many, 50, 0, 1)
    assert ((counts - 4000).square() / 4000).sum() < 100  # chi-square, 49 degrees of freedom, p < 1e-5


def test_golden():
    """Frozen: another number here is another mask for everyone."""
    ids = torch.tensor([0, 1, -1, 2**62])
    assert (row_uniform(4, seed=7, step=2**40, sample_ids=ids) * 2**24).int().tolist() == [
        8175484,
        3694421,
        9219071,
        2083516,
    ]


def test_what_row_uniform_refuses():
    with pytest.raises(ValueError, match="seed"):
        row_uniform(3)
    with pytest.raises(ValueError, match="batch"):
        row_uniform(-1, seed=0)
    with pytest.raises(TypeError, match="batch"):
        row_uniform(1.5, seed=0)
    with pytest.raises(ValueError, match="sample_ids"):
        row_uniform(3, seed=0, sample_ids=torch.arange(2))
    with pytest.raises(TypeError, match="u must"):
        mask_rate(0.5)
    with pytest.raises(TypeError, match="power must"):
        mask_rate(torch.zeros(2), power="2")


def test_compiled():
    @torch.compile(fullgraph=True, backend="aot_eager", dynamic=True)
    def rates(ids, step):
        return mask_rate(row_uniform(ids.shape[0], seed=1, step=step, sample_ids=ids), "cosine")

    for step in (1, 2, 3):
        ids = torch.arange(5 + step)
        expected = mask_rate(row_uniform(len(ids), seed=1, step=step, sample_ids=ids), "cosine")
        torch.testing.assert_close(rates(ids, step), expected)
