"""What the span operators check: numbers wherever they are called, values before the reference runs."""

import functools
import math
from typing import Any

import torch
from torch import Tensor

from sslkernels._random import check_stream
from sslkernels._scalars import as_float, as_int, threshold
from sslkernels.masking.spans.counts import noise_counts

LONGEST = (1 << 31) - 1
LARGEST_SPAN = (1 << 16) - 1


def between(name: str, value: Any, low: float, high: float) -> float:
    """`value` as a float in [low, high]; NaN lies nowhere."""
    number = as_float(name, value)
    if not low <= number <= high:
        raise ValueError(f"{name} must lie in [{low}, {high}], got {number}")
    return number


def positive(name: str, value: Any, most: float = math.inf) -> float:
    """`value` as a float in (0, most], finite."""
    number = as_float(name, value)
    if not (0 < number <= most and number < math.inf):
        allowed = "be finite and positive" if most == math.inf else f"lie in (0, {most}]"
        raise ValueError(f"{name} must {allowed}, got {number}")
    return number


def finite_rate(value: Any) -> float:
    """A rate above 1 is of use: spans overlap."""
    rate = as_float("rate", value)
    if not 0 <= rate < math.inf:
        raise ValueError(f"rate must be finite and at least 0, got {rate}")
    return rate


def length_limits(p: float, max_span: int) -> list[int]:
    """Limits of geometric(p), renormalised on 1..max_span: a length is 1 + how many a 32-bit word reaches."""
    step = math.log1p(-p) if p < 1 else -math.inf
    whole = math.expm1(max_span * step)
    limits = (threshold(math.expm1(length * step) / whole) for length in range(1, max_span))
    return [limit for limit in limits if limit < 1 << 32]


length_limits_once = functools.lru_cache(maxsize=64)(length_limits)


def check_numbers(longest: int, seed: int, step: int) -> None:
    check_stream(seed, step)
    as_int("max_length", longest, 0, LONGEST)


def check_rows(lengths: Tensor, longest: int, seed: int, step: int) -> None:
    check_numbers(longest, seed, step)
    bad = ((lengths < 0) | (lengths > longest)).nonzero()
    if len(bad):
        row = int(bad[0])
        raise ValueError(f"lengths[{row}] is {int(lengths[row])}, outside [0, {longest}]")


def span_mask(
    lengths: Tensor,
    sample_ids: Tensor | None,
    max_length: int,
    rate: float,
    span: int,
    min_spans: int,
    seed: int,
    step: int,
) -> None:
    check_rows(lengths, max_length, seed, step)
    finite_rate(rate)
    as_int("span", span, 1)


def geometric_span_groups(
    lengths: Tensor,
    sample_ids: Tensor | None,
    max_length: int,
    budget: float,
    limits: list[int],
    seed: int,
    step: int,
) -> None:
    check_rows(lengths, max_length, seed, step)
    between("budget", budget, 0, 1)
    if sorted(limits) != list(limits):
        raise ValueError("limits must ascend")


def check_texts(
    ids: Tensor, noise_density: float, mean_span: float, sentinel_start: int, eos_id: int | None, pad_id: int
) -> None:
    between("noise_density", noise_density, 0, 1)
    positive("mean_span", mean_span)
    as_int("sentinel_start", sentinel_start, 0)
    for name, value in (("sentinel_start", sentinel_start), ("eos_id", eos_id), ("pad_id", pad_id)):
        info = torch.iinfo(ids.dtype)
        if value is not None and not info.min <= value <= info.max:
            raise ValueError(f"{name} must fit in the dtype of ids, got {value}")


def check_sentinels(spans: Tensor, sentinel_start: int) -> None:
    bad = (spans - 1 > sentinel_start).nonzero()
    if len(bad):
        row = int(bad[0])
        raise ValueError(
            f"sentinel_start must be at least {int(spans[row]) - 1} for the {int(spans[row])} spans of row "
            f"{row}, got {sentinel_start}"
        )


def span_corruption(
    ids: Tensor,
    lengths: Tensor,
    sample_ids: Tensor | None,
    noise_density: float,
    mean_span: float,
    sentinel_start: int,
    eos_id: int | None,
    pad_id: int,
    seed: int,
    step: int,
) -> None:
    check_rows(lengths, ids.shape[1], seed, step)
    check_texts(ids, noise_density, mean_span, sentinel_start, eos_id, pad_id)
    check_sentinels(noise_counts(lengths, noise_density, mean_span)[1], sentinel_start)
