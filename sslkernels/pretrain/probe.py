"""What frozen features know: a linear model on few labels."""

from __future__ import annotations

import math

import torch
from torch import Tensor

PENALTIES = tuple(10.0**power for power in range(-3, 6))


def ridge_rmse(features: Tensor, targets: Tensor, *, labels: int, splits: int = 5, seed: int = 0) -> float:
    """Root mean square error of ridge regression on `labels` rows, on the rest; mean over `splits` draws.

    features (N, D), targets (N,); nan where no row is left to predict or a feature is not finite. Columns
    are standardised by the labelled rows; the penalty is the one of PENALTIES with
    the least leave-one-out error on them.
    """
    if len(targets) <= labels or not features.isfinite().all():
        return math.nan
    errors = []
    for split in range(splits):
        order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed + split))
        known, rest = order[:labels], order[labels:]
        predicted = _ridge(features[known].double(), targets[known].double(), features[rest].double())
        errors.append((predicted - targets[rest]).square().mean().sqrt())
    return float(torch.stack(errors).mean())


def _ridge(x: Tensor, y: Tensor, new: Tensor) -> Tensor:
    mean, scale = x.mean(0), x.std(0, correction=min(1, len(x) - 1)).clamp(min=1e-9)
    u, s, v = torch.linalg.svd((x - mean) / scale, full_matrices=False)
    residuals = torch.stack([_left_out(u, s, y - y.mean(), penalty) for penalty in PENALTIES])
    penalty = PENALTIES[int(residuals.square().sum(1).argmin())]
    weights = v.T @ (s / (s.square() + penalty) * (u.T @ (y - y.mean())))
    return (new - mean) / scale @ weights + y.mean()


def _left_out(u: Tensor, s: Tensor, y: Tensor, penalty: float) -> Tensor:
    """Residual of each row under the fit without it: (y - Hy) / (1 - h); the mean's 1 / n counts in h."""
    shrink = s.square() / (s.square() + penalty)
    fitted = u @ (shrink * (u.T @ y))
    leverage = (u.square() * shrink).sum(1) + 1 / len(y)
    return (y - fitted) / (1 - leverage).clamp(min=1e-9)


def ridge_auc(features: Tensor, positive: Tensor, *, labels: int, splits: int = 5, seed: int = 0) -> float:
    """Area under the ROC curve of ridge regression on `labels` rows, on the rest; mean over `splits` draws.

    features (N, D), positive bool (N,), regressed as 1 and -1; columns, penalty and nan as in `ridge_rmse`.
    """
    if len(positive) <= labels or not features.isfinite().all():
        return math.nan
    areas = []
    for split in range(splits):
        order = torch.randperm(len(positive), generator=torch.Generator().manual_seed(seed + split))
        known, rest = order[:labels], order[labels:]
        target = positive[known].double() * 2 - 1
        areas.append(auc(_ridge(features[known].double(), target, features[rest].double()), positive[rest]))
    return sum(areas) / len(areas)


def auc(scores: Tensor, positive: Tensor) -> float:
    """How often one of `positive` (bool) scores above one that is not; ties count half; NaN without both."""
    _, place, size = scores.unique(return_inverse=True, return_counts=True)
    rank = (size.cumsum(0).double() - (size - 1).double() / 2)[place]  # the mean rank of equal scores
    yes, no = int(positive.sum()), int((~positive).sum())
    if not yes or not no:
        return float("nan")
    return float((rank[positive].sum() - yes * (yes + 1) / 2) / (yes * no))
