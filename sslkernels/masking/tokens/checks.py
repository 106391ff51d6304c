"""The checks of the native kernels, in the same words, for eager calls of the reference."""

import torch
from torch import Tensor

from sslkernels._random import check_stream


def check(
    ids: Tensor,
    ptr: Tensor | None,
    sample_ids: Tensor | None,
    limit: int,
    row_limit: Tensor | None,
    mask_limit: int,
    random_limit: int,
    mask_id: int,
    vocab_size: int,
    special_ids: list[int],
    maskable: Tensor | None,
    groups: Tensor | None,
    cluster_of: Tensor | None,
    cluster_tokens: Tensor | None,
    cluster_ptr: Tensor | None,
    cluster_limits: Tensor | None,
    labels: str,
    exclude_original: bool,
    min_selected: int,
    row_min_selected: Tensor | None,
    ignore_index: int,
    capacity: int,
    seed: int,
    step: int,
) -> None:
    """Sizes that the shape line cannot tie together, and values; ValueError."""
    check_stream(seed, step)
    batch = ids.shape[0] if ptr is None else ptr.shape[0] - 1
    columns = ids.shape[1] if ptr is None else 1
    if groups is not None and groups.shape[1] != columns:
        raise ValueError(f"groups must have {columns} columns, got {groups.shape[1]}")
    for name, value in (("sample_ids", sample_ids), ("rate", row_limit), ("min_selected", row_min_selected)):
        if value is not None and len(value) != batch:
            raise ValueError(f"{name} must have one entry a sample (B={batch}), got {len(value)}")
    if ptr is not None:
        _check_ptr(ptr, ids.shape[0])
    if row_limit is not None and len(bad := _first((row_limit < 0) | (row_limit > 1 << 32))):
        raise ValueError(f"rate[{bad[0]}] is outside [0, 1] or NaN")
    if row_min_selected is not None and len(bad := _first(row_min_selected < 0)):
        raise ValueError(f"min_selected[{bad[0]}] is {row_min_selected[bad[0]]}, must be at least 0")
    if random_limit > mask_limit and cluster_ptr is not None and int(cluster_ptr[-1]) == 0:
        raise ValueError("special_ids and clusters.excluded_ids leave no id to draw where mix[1] > 0")
    if vocab_size >= 0:
        special = torch.tensor(special_ids, dtype=torch.int64, device=ids.device)
        outside = ((ids < 0) | (ids >= vocab_size)) & ~torch.isin(ids.long(), special)
        if len(bad := _first(outside)):
            place = bad[0] if ptr is not None and ids.shape[1] == 1 else f"{bad[0]}, {bad[1]}"
            raise ValueError(f"ids[{place}] is {ids[bad[0], bad[1]]}, outside [0, {vocab_size})")


def _first(bad: Tensor) -> list[int]:
    """Index of the first True, in reading order; empty where there is none."""
    places = bad.nonzero()
    return places[0].tolist() if len(places) else []


def _check_ptr(ptr: Tensor, total: int) -> None:
    if len(ptr) == 0:
        raise ValueError("ptr must have at least one entry")
    if int(ptr[0]) != 0 or int(ptr[-1]) != total:
        raise ValueError(f"ptr must start at 0 and end at {total}, got {int(ptr[0])} and {int(ptr[-1])}")
    if len(bad := _first(ptr.diff() < 0)):
        raise ValueError(f"ptr[{bad[0] + 1}] is {ptr[bad[0] + 1]}, below ptr[{bad[0]}] = {ptr[bad[0]]}")
