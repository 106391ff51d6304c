"""corrupt_tokens on GPUs: one kernel over the tokens where each is its own unit, else a few around two sorts.

A program takes a block of positions of one row (DENSE), or of cells of the packed rows. Where units are
groups, rows of stacked columns, or counted (STAGED), eligibility and selection are worked out first and the
last kernel reads them; groups and top-up are sorts of torch, which hold no loop over a row and do not
synchronise. Which word of which Philox call serves what is listed in csrc/common/philox.h.
"""

import functools
from collections.abc import Iterator
from typing import Any

import torch
import triton
from torch import Tensor

from sslkernels._random import PURPOSE, check_stream, signed_key
from sslkernels._shapes import values_are_checked
from sslkernels.masking.tokens.checks import check
from sslkernels.masking.tokens.triton_programs import (
    corrupt_kernel,
    flag_kernel,
    list_kernel,
    row_uniform_kernel,
    words_kernel,
)

_LABELS = {"original": 0, "selected": 1, "changed": 2}
_LONGEST_BLOCK = 1024
Results = tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]


@functools.lru_cache(maxsize=64)
def _ranges(special_ids: tuple[int, ...], device: torch.device) -> Tensor:
    """(n, 2): special ids as ranges, both ends included."""
    ranges: list[list[int]] = []
    for token in sorted(set(special_ids)):
        if ranges and token == ranges[-1][1] + 1:
            ranges[-1][1] = token
        else:
            ranges.append([token, token])
    return torch.tensor(ranges, dtype=torch.int64, device=device).reshape(-1, 2)


def _block(length: int) -> int:
    return min(_LONGEST_BLOCK, max(64, triton.next_power_of_2(length)))


def _contiguous(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()


def _places(ids: Tensor, ptr: Tensor | None) -> tuple[Tensor, Tensor]:
    """Sample and position of every token. Offsets are clamped, never followed outside."""
    if ptr is None:
        at = torch.arange(ids.numel(), device=ids.device)
        return at // max(ids.shape[1], 1), at % max(ids.shape[1], 1)
    at = torch.arange(ids.shape[0], device=ids.device)
    if ptr.shape[0] < 2:
        return torch.zeros_like(at), at
    row = (torch.searchsorted(ptr, at, right=True) - 1).clamp(0, ptr.shape[0] - 2)
    return row, (at - ptr[row]).clamp(min=0)


def _sorted_by_row(row: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """Indices by (row, key), ties in order; and, in that order, where each row's first stands."""
    order = torch.sort(key, stable=True).indices
    order = order[torch.sort(row[order], stable=True).indices]
    own = row[order]
    index = torch.arange(len(order), device=order.device)
    new = torch.ones_like(own, dtype=torch.bool)
    new[1:] = own[1:] != own[:-1]
    return order, torch.cummax(torch.where(new, index, 0), 0).values


def _leaders(flags: Tensor, row: Tensor, groups: Tensor) -> Tensor:
    """Index of the first eligible token of each token's group, -1 where it belongs to none."""
    index = torch.arange(len(row), device=row.device)
    valid = flags & (groups >= 0)
    apart = torch.where(valid, row, row.max() + 1)  # the others stand behind all samples
    order, _ = _sorted_by_row(apart, groups)
    label, own = groups[order], apart[order]
    new = torch.ones_like(own, dtype=torch.bool)
    new[1:] = (label[1:] != label[:-1]) | (own[1:] != own[:-1])
    start = torch.cummax(torch.where(new, index, 0), 0).values
    leader = torch.empty_like(index)
    leader[order] = torch.where(valid[order], order[start], -1)
    return leader


def _top_up(chosen: Tensor, leads: Tensor, row: Tensor, least: Tensor, words: Tensor) -> Tensor:
    """The units of the smallest words are added until a row has `least`."""
    missing = least - torch.zeros_like(least).index_add_(0, row, chosen.long())
    spare = leads & ~chosen
    order, start = _sorted_by_row(row, torch.where(spare, words, 1 << 32))  # those that are none come last
    rank = torch.arange(len(order), device=order.device) - start
    added = torch.zeros_like(chosen)
    added[order] = spare[order] & (rank < missing[row[order]])
    return chosen | added


def corrupt_tokens(
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
) -> Results:
    """The operator; values are checked on the CPU, and on a GPU with SSLKERNELS_CHECK=1.

    Long because its arguments stand one a line.
    """
    if values_are_checked(ids):
        check(
            *(
                ids,
                ptr,
                sample_ids,
                limit,
                row_limit,
                mask_limit,
                random_limit,
                mask_id,
                vocab_size,
                special_ids,
            ),
            *(maskable, groups, cluster_of, cluster_tokens, cluster_ptr, cluster_limits, labels),
            *(exclude_original, min_selected, row_min_selected, ignore_index, capacity, seed, step),
        )
    check_stream(seed, step)
    ids = ids.contiguous()
    columns = 1 if ptr is None else ids.shape[1]
    batch = ids.shape[0] if ptr is None else ptr.shape[0] - 1
    cells, key, ranges = ids.numel(), signed_key(seed, step), _ranges(tuple(special_ids), ids.device)
    samples, bounds, given = _contiguous(sample_ids), _contiguous(row_limit), _contiguous(maskable)
    tops_up = min_selected > 0 or row_min_selected is not None
    staged = columns != 1 or groups is not None or tops_up
    dense = ptr is None and not staged
    row, position = (None, None) if dense else _places(ids, ptr)
    flags = chosen = unit = None
    if staged:
        assert row is not None
        assert position is not None
        flags = _flags(ids, given, ranges)
        least = row_min_selected
        if tops_up and least is None:
            least = torch.full((batch,), min_selected, device=ids.device)
        labelled = None if groups is None else groups.reshape(-1).long()
        rows = flags.reshape(len(row), columns).any(1)
        chosen, unit = _staged(
            rows, row, position, samples, labelled, limit if bounds is None else bounds, least, key
        )
    found, scored, selected = (torch.empty_like(ids, dtype=kind) for kind in (None, torch.int64, torch.bool))
    random = 0 if random_limit == mask_limit else 1 if cluster_of is None else 2
    drawable = vocab_size - sum(0 <= token < vocab_size for token in special_ids)
    number = 0 if cluster_limits is None else cluster_limits.shape[0]
    tables = map(_contiguous, (cluster_of, cluster_tokens, cluster_ptr, cluster_limits))
    if cells:
        block = _block(ids.shape[1]) if dense else 1024
        grid = (batch, triton.cdiv(ids.shape[1], block)) if dense else (triton.cdiv(cells, block),)
        corrupt_kernel[grid](
            *(
                ids,
                found,
                scored,
                selected,
                given,
                flags,
                chosen,
                unit,
                row,
                position,
                samples,
                bounds,
                ranges,
            ),
            *(*tables, _inverse(cluster_tokens) if exclude_original else None),
            *(cells, ids.shape[1], columns, len(ranges), vocab_size, drawable, number, limit, mask_limit),
            *(random_limit, mask_id, ignore_index, *key),
            DENSE=dense,
            STAGED=staged,
            LABELS=_LABELS[labels],
            RANDOM=random,
            EXCLUDE=exclude_original,
            STEPS=number.bit_length(),
            BLOCK=block,
        )
    if capacity < 0:
        return found, scored, selected, None, None
    return found, scored, selected, *_listed(selected, ids, ptr, batch, columns, capacity)


def _flags(ids: Tensor, maskable: Tensor | None, ranges: Tensor) -> Tensor:
    """Eligibility of every cell."""
    flags, cells = torch.empty_like(ids, dtype=torch.bool), ids.numel()
    if cells:
        flag_kernel[(triton.cdiv(cells, 1024),)](ids, maskable, flags, ranges, cells, len(ranges), BLOCK=1024)
    return flags


def _inverse(tokens: Tensor | None) -> Tensor | None:
    """The place of every token in `tokens`, a permutation."""
    if tokens is None:
        return None
    place = torch.empty_like(tokens)
    place[tokens.long()] = torch.arange(len(place), dtype=place.dtype, device=place.device)
    return place


def _staged(
    eligible: Tensor,
    row: Tensor,
    position: Tensor,
    sample_ids: Tensor | None,
    groups: Tensor | None,
    limit: int | Tensor,
    least: Tensor | None,
    key: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """For every token: whether its unit is chosen, and the position at which its unit starts."""
    index = torch.arange(len(row), device=row.device)
    if len(row) == 0:
        return eligible, position
    leader = torch.where(eligible, index, -1) if groups is None else _leaders(eligible, row, groups)
    leads = leader == index
    bound = limit if isinstance(limit, int) else limit[row]
    chosen = leads & (_words(row, position, sample_ids, key, PURPOSE.select) < bound)
    if least is not None:
        chosen = _top_up(chosen, leads, row, least, _words(row, position, sample_ids, key, PURPOSE.top_up))
    start = leader.clamp(min=0)
    return (leader >= 0) & chosen[start], position[start]


def _words(
    row: Tensor, position: Tensor, sample_ids: Tensor | None, key: tuple[int, int], purpose: int
) -> Tensor:
    words = torch.empty_like(position)
    grid = (triton.cdiv(len(row), 1024),)
    words_kernel[grid](row, position, sample_ids, words, len(row), *key, PURPOSE_OF=purpose, BLOCK=1024)
    return words


def _listed(
    selected: Tensor, ids: Tensor, ptr: Tensor | None, batch: int, columns: int, capacity: int
) -> tuple[Tensor, Tensor]:
    positions = torch.full((batch, capacity), -1, dtype=torch.int32, device=ids.device)
    counts = torch.zeros(batch, dtype=torch.int32, device=ids.device)
    total = ids.numel() // max(columns, 1)
    edges = torch.arange(batch + 1, device=ids.device) * ids.shape[1] if ptr is None else ptr.clamp(0, total)
    chosen = selected.reshape(total, columns).any(1) if columns > 1 else selected.reshape(-1)
    if batch:
        list_kernel[(batch,)](chosen, edges[:-1], edges[1:], positions, counts, capacity, BLOCK=256)
    return positions, counts


def row_uniform(sample_ids: Tensor, seed: int, step: int) -> Tensor:
    """The operator: one word a row."""
    check_stream(seed, step)
    sample_ids = sample_ids.contiguous()
    out = torch.empty(sample_ids.shape, dtype=torch.float32, device=sample_ids.device)
    if len(out):
        grid = (triton.cdiv(len(out), 256),)
        row_uniform_kernel[grid](sample_ids, out, len(out), *signed_key(seed, step), BLOCK=256)
    return out


def configurations() -> Iterator[tuple[Any, dict[str, Any], dict[str, Any]]]:
    """(kernel, arguments, options) of the launches that the functions above make."""
    sizes = ("cells", "length", "columns", "n_ranges", "vocab_size", "drawable", "clusters")
    numbers = dict.fromkeys((*sizes, "mask_id", "ignore_index"), "i32")
    limits = dict.fromkeys(("limit", "mask_limit", "random_limit"), "i64")
    key = {"key_low": "i32", "key_high": "i32"}
    clusters = {
        "cluster_of": "*i32",
        "cluster_tokens": "*i32",
        "cluster_ptr": "*i32",
        "cluster_limits": "*i64",
    }
    none: dict[str, Any] = dict.fromkeys((*clusters, "place_of", "maskable", "flags", "chosen", "unit_of"))
    none |= dict.fromkeys(("row_of", "position_of", "sample_ids", "row_limit"))
    outputs = {"found": "*i64", "scored": "*i64", "selected": "*i1", "ranges": "*i64"}
    rows = {"row_of": "*i64", "position_of": "*i64", "sample_ids": "*i64"}
    stages = {"flags": "*i1", "chosen": "*i1", "unit_of": "*i64"}
    base = {"ids": "*i64", **none, **outputs, **numbers, **limits, **key, "STEPS": 0, "BLOCK": 512}
    dense, packed = {"DENSE": True, "STAGED": False}, {"DENSE": False, "STAGED": False, **rows, "BLOCK": 1024}
    staged = {**packed, **stages, "STAGED": True}
    kinds: list[dict[str, Any]] = [
        {**dense, "LABELS": 0, "RANDOM": 1, "EXCLUDE": False},
        {**dense, "LABELS": 1, "RANDOM": 1, "EXCLUDE": True, "row_limit": "*i64"},
        {**dense, "LABELS": 1, "RANDOM": 2, "EXCLUDE": False, **clusters, "STEPS": 7},
        {**packed, "LABELS": 0, "RANDOM": 1, "EXCLUDE": False},
        {**staged, "LABELS": 0, "RANDOM": 1, "EXCLUDE": False},
        {**staged, "LABELS": 2, "RANDOM": 2, "EXCLUDE": True, **clusters, "STEPS": 7, "place_of": "*i32"},
    ]
    for kind in kinds:
        yield corrupt_kernel, {**base, **kind}, {}
    flag = {
        "ids": "*i64",
        "maskable": None,
        "flags": "*i1",
        "ranges": "*i64",
        "cells": "i32",
        "n_ranges": "i32",
    }
    yield flag_kernel, {**flag, "BLOCK": 1024}, {}
    yield words_kernel, {**rows, "out": "*i64", "total": "i32", **key, "PURPOSE_OF": 1, "BLOCK": 1024}, {}
    listed = {"chosen": "*i1", "begins": "*i64", "ends": "*i64", "positions": "*i32", "counts": "*i32"}
    yield list_kernel, {**listed, "capacity": "i32", "BLOCK": 256}, {}
    yield row_uniform_kernel, {"sample_ids": "*i64", "out": "*fp32", "total": "i32", **key, "BLOCK": 256}, {}
