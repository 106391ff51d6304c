import math

import pytest
import torch

from sslkernels.pretrain.models import Transformer, rotated, rotation, segment_mask
from sslkernels.pretrain.probe import PENALTIES, _left_out, ridge_rmse


def test_a_query_reads_its_own_segment_only():
    segments = torch.tensor([[0, 0, 1, 2, 2]])
    mask = segment_mask(segments)[0, 0]
    assert mask.int().tolist() == [
        [1, 1, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 0, 1, 1],
        [0, 0, 0, 1, 1],
    ]
    assert torch.equal(segment_mask(segments, causal=True)[0, 0], mask.tril())


def test_rotary_scores_depend_on_the_distance_alone():
    q, k = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def score(i, j):
        at = [rotation(torch.tensor([[place]]), 8) for place in (i, j)]
        return (rotated(q, at[0]) * rotated(k, at[1])).sum()

    assert torch.allclose(score(3, 1), score(103, 101), atol=1e-4)
    assert not torch.allclose(score(3, 1), score(1, 3), atol=1e-3)
    assert torch.equal(rotated(q, rotation(torch.tensor([[0]]), 8)), q)


@pytest.mark.parametrize("causal", [False, True])
def test_packing_changes_nothing(causal):
    """Two sequences in one row give what each gives alone; gradients too."""
    torch.manual_seed(0)
    net = Transformer(16, 2, 2).double()
    x = torch.randn(1, 9, 16, dtype=torch.float64, requires_grad=True)
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4]])
    segments = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1, 1]])
    together = net(x, positions, segment_mask(segments, causal))
    for part in (slice(0, 4), slice(4, 9)):
        mask = segment_mask(segments[:, part], causal)
        alone = net(x[:, part], positions[:, part], mask)
        torch.testing.assert_close(alone, together[:, part])
    (gradient,) = torch.autograd.grad(together[:, :4].sum(), x)
    assert gradient[:, 4:].abs().max() == 0


def test_no_row_at_all():
    net = Transformer(16, 2, 1)
    x = torch.zeros(0, 8, 16)
    segments = torch.zeros(0, 8, dtype=torch.int64)
    net(x, segments, segment_mask(segments)).sum().backward()
    assert all(parameter.grad.abs().sum() == 0 for parameter in net.parameters())


def test_heads_that_do_not_fit():
    with pytest.raises(ValueError, match="dim is 30"):
        Transformer(30, 4, 1)


def test_left_out_residuals_are_those_of_the_fit_without_the_row():
    torch.manual_seed(1)
    x, y = torch.randn(12, 3, dtype=torch.float64), torch.randn(12, dtype=torch.float64)
    u, s, _ = torch.linalg.svd(x, full_matrices=False)
    for penalty in PENALTIES[1:5:2]:
        expected = []
        for row in range(12):
            keep = torch.arange(12) != row
            gram = x[keep].T @ x[keep] + penalty * torch.eye(3, dtype=torch.float64)
            expected.append(y[row] - x[row] @ torch.linalg.solve(gram, x[keep].T @ y[keep]))
        # the term 1 / n, of the mean, is no part of this oracle
        shrink = s.square() / (s.square() + penalty)
        leverage = (u.square() * shrink).sum(1)
        ours = _left_out(u, s, y, penalty) * (1 - leverage - 1 / 12) / (1 - leverage)
        torch.testing.assert_close(ours, torch.stack(expected))


def test_a_linear_target_is_found_and_noise_is_not():
    torch.manual_seed(2)
    features = torch.randn(300, 8)
    weights = torch.randn(8)
    targets = features @ weights + 5
    assert ridge_rmse(features, targets, labels=50) < 0.05
    noise = torch.randn(300)
    assert 0.8 < ridge_rmse(features, noise, labels=50) < 1.3  # the penalty saves it from fitting noise
    constant = torch.cat([features, torch.ones(300, 1)], 1)  # a column without spread
    assert ridge_rmse(constant, targets, labels=50) < 0.05
    assert math.isnan(ridge_rmse(features, targets, labels=300))  # nothing is left to predict
    assert math.isnan(ridge_rmse(features * math.inf, targets, labels=50))  # a network that diverged
    assert ridge_rmse(features, targets, labels=1) > 1  # the mean of one label
    assert ridge_rmse(features, targets, labels=50, seed=1) != ridge_rmse(features, targets, labels=50)
