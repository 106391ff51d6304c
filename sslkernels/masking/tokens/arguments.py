"""The plain-number arguments of corrupt_tokens, checked; shared by the torch and the NumPy face (no torch).

Probabilities become limits: a 32-bit word below floor(p * 2^32 + 1/2) says yes, so that no float enters a
decision and p = 1 is certain.
"""

import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sslkernels._scalars import as_float, as_int, threshold

LABELS = ("original", "selected", "changed")
MAX_VOCABULARY = (1 << 31) - 1
_MIX_TOLERANCE = 1e-6


class Plan(NamedTuple):
    """What the operator is given: limits, sorted special ids, -1 for "none"."""

    mask_limit: int  # a selected unit's word below it: replaced by mask_id
    random_limit: int  # else below this one: replaced by random ids
    mask_id: int
    vocab_size: int
    special_ids: list[int]
    ignore_index: int
    capacity: int


def check_shapes(ids: Any, ptr: Any, maskable: Any, groups: Any, array: Any) -> None:
    """The shapes by which a call is read; `array`: what the arguments are, torch.Tensor or numpy.ndarray."""
    if isinstance(ids, array) and ids.ndim == 2 and ptr is None and maskable is None and groups is None:
        return  # most calls
    for name, value in (("ids", ids), ("ptr", ptr), ("maskable", maskable), ("groups", groups)):
        if not isinstance(value, array) and (name == "ids" or value is not None):
            raise TypeError(f"{name} must be a {array.__name__}, got {type(value).__name__}")
    if ptr is None:
        if ids.ndim != 2:
            raise ValueError(
                f"ids must have shape (B, L), or (T,) or (T, F) with ptr, got {tuple(ids.shape)}"
            )
    elif ids.ndim not in (1, 2):
        raise ValueError(f"ids must have shape (T,) or (T, F) with ptr, got {tuple(ids.shape)}")
    elif ptr.ndim != 1 or ptr.shape[0] == 0:
        raise ValueError(f"ptr must have shape (B+1,), got {tuple(ptr.shape)}")
    if maskable is not None and maskable.shape != ids.shape:
        raise ValueError(f"maskable must have shape {tuple(ids.shape)}, got {tuple(maskable.shape)}")
    labelled = ids.shape if ptr is None else ids.shape[:1]
    if groups is not None and groups.shape != labelled:
        raise ValueError(f"groups must have shape {tuple(labelled)}, got {tuple(groups.shape)}")


def vocabulary_of(clusters: Any) -> int | None:
    """How many tokens the clusters cover, None without clusters."""
    if clusters is None:
        return None
    if not hasattr(clusters, "tables"):
        raise TypeError(f"clusters must be a TokenClusters or None, got {type(clusters).__name__}")
    return clusters.cluster_of.shape[0]


def as_tuple(name: str, values: Any) -> tuple[Any, ...]:
    try:
        return tuple(values)
    except TypeError:
        raise TypeError(f"{name} must be a sequence, got {type(values).__name__}") from None


def _special(value: Any) -> int:
    return as_int("special_ids", value)


def mix_limits(mix: Sequence[float]) -> tuple[int, int]:
    """The cumulative limits of "mask" and "random", of a mix scaled to sum to 1 exactly."""
    values = as_tuple("mix", mix)
    if not all(isinstance(value, int | float) for value in values):
        raise TypeError(f"mix must be three numbers (mask, random, keep), got {values}")
    if len(values) != 3 or not all(0 <= value < math.inf for value in values):
        raise ValueError(f"mix must be three shares >= 0 (mask, random, keep), got {values}")
    total = values[0] + values[1] + values[2]
    if abs(total - 1) > _MIX_TOLERANCE:
        raise ValueError(f"mix must sum to 1 within {_MIX_TOLERANCE:g}, got {values}")
    # Scaling keeps a share of 0 impossible and a remaining share of 1 certain.
    return threshold(values[0] / total), threshold((values[0] + values[1]) / total)


def rate_limit(rate: float) -> int:
    """The limit of a rate in [0, 1]."""
    rate = as_float("rate", rate)
    if not 0 <= rate <= 1:
        raise ValueError(f"rate must lie in [0, 1], got {rate}")
    return threshold(rate)


def limits(rate: Any, min_selected: Any, array: type) -> tuple[int, int]:
    """The limit of a rate, and the least number of units; 0 for one that is an `array`, a number a sample."""
    limit = 0 if isinstance(rate, array) else rate_limit(rate)
    return limit, 0 if isinstance(min_selected, array) else as_int("min_selected", min_selected, 0)


def plan(
    mix: Sequence[float],
    mask_id: int | None,
    vocab_size: int | None,
    special_ids: Iterable[int],
    labels: str,
    ignore_index: int,
    capacity: int | None,
    covered: int | None,
    largest_id: int,
) -> Plan:
    """Check the arguments that are plain numbers.

    covered: the vocabulary of the clusters, None without; largest_id: the largest value of the ids' dtype
    """
    mask_limit, random_limit = mix_limits(mix)
    if labels not in LABELS:
        raise ValueError(f"labels must be one of {', '.join(LABELS)}, got {labels!r}")
    if mask_id is not None:
        as_int("mask_id", mask_id, -largest_id - 1, largest_id)
    elif mix[0] > 0:
        raise ValueError(f"mask_id must be given where mix[0] > 0, got mix {tuple(mix)}")
    special = sorted({_special(value) for value in as_tuple("special_ids", special_ids)})
    if covered is not None:
        if vocab_size is not None and vocab_size != covered:
            raise ValueError(
                f"vocab_size must be {covered}, the size of clusters.cluster_of, got {vocab_size}"
            )
        vocab_size = covered
    if vocab_size is not None:
        as_int("vocab_size", vocab_size, 0, MAX_VOCABULARY)
    if mix[1] > 0 and covered is None:
        _check_drawable(vocab_size, special, mix)
    return Plan(
        mask_limit=mask_limit,
        random_limit=random_limit,
        mask_id=0 if mask_id is None else mask_id,
        vocab_size=-1 if vocab_size is None else vocab_size,
        special_ids=special,
        ignore_index=as_int("ignore_index", ignore_index),
        capacity=-1 if capacity is None else as_int("capacity", capacity, 0),
    )


_plan_seen = functools.lru_cache(maxsize=64, typed=True)(plan)


def plan_once(
    mix: Sequence[float],
    mask_id: int | None,
    vocab_size: int | None,
    special_ids: Iterable[int],
    *rest: Any,
) -> Plan:
    """`plan`, looked up where the same arguments were checked before: a third of a small call."""
    if type(mix) is not tuple:
        mix = as_tuple("mix", mix)
    if type(special_ids) is not tuple:
        special_ids = as_tuple("special_ids", special_ids)
    try:
        return _plan_seen(mix, mask_id, vocab_size, special_ids, *rest)
    except TypeError:  # what cannot be hashed, or a wrong type, which is then named
        return plan(mix, mask_id, vocab_size, special_ids, *rest)


def _check_drawable(vocab_size: int | None, special: list[int], mix: Sequence[float]) -> None:
    if vocab_size is None:
        raise ValueError(f"vocab_size must be given where mix[1] > 0, got mix {tuple(mix)}")
    if vocab_size - sum(0 <= value < vocab_size for value in special) <= 0:
        raise ValueError(
            f"special_ids must leave an id in [0, vocab_size={vocab_size}) where mix[1] > 0, got {special}"
        )


def draws(rate: Any, min_selected: Any, mix: Sequence[float]) -> bool:
    """Whether anything is drawn at all: without it no seed is needed."""
    if isinstance(rate, float | int) and isinstance(min_selected, int):
        if rate == 0 and min_selected == 0:
            return False
        if rate == 1:
            return not (mix[0] == 1 or mix[2] == 1)
    return True
