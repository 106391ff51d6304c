"""The span operators on GPUs; what is drawn how: csrc/masking/spans/core.h.

A length outside its range counts as 0 where values are not checked. span_corruption must wait for the
lengths, since the widths of its results depend on them, and checks values while it does.
"""

import functools
from collections.abc import Iterator
from typing import Any

import torch
import triton
from torch import Tensor

from sslkernels._random import signed_key
from sslkernels._shapes import values_are_checked
from sslkernels.masking.spans import checks
from sslkernels.masking.spans.counts import hidden_counts, noise_counts, span_counts
from sslkernels.masking.spans.triton_programs import (
    choose_kernel,
    count_words_kernel,
    cover_kernel,
    edges_kernel,
    emit_kernel,
    number_kernel,
    widths_kernel,
)

_LANES = {"BLOCK": 32, "num_warps": 1}  # a thread a row: it alone reads what it wrote
Key = tuple[int, int]


def _rows(lengths: Tensor, sample_ids: Tensor | None, longest: int) -> tuple[Tensor, Tensor]:
    """Lengths in their range and sample ids, int64."""
    lengths = lengths.long()
    lengths = torch.where((lengths < 0) | (lengths > longest), 0, lengths)
    if sample_ids is None:
        return lengths, torch.arange(len(lengths), device=lengths.device)
    return lengths, sample_ids.contiguous()


def _lanes(rows: int) -> tuple[int]:
    return (triton.cdiv(rows, _LANES["BLOCK"]),)


def _block(width: int) -> int:
    return min(1024, max(64, triton.next_power_of_2(width)))


def _choose(
    sample: Tensor, counts: Tensor, sizes: Tensor, width: int, key: Key, firsts: Tensor | None = None
) -> Tensor:
    """(B, width) bool: `counts` different places of [0, sizes) of each row."""
    chosen = torch.zeros((len(counts), width), dtype=torch.bool, device=counts.device)
    if chosen.numel():
        rows = len(counts)
        choose_kernel[_lanes(rows)](sample, counts, sizes, firsts, chosen, rows, width, *key, **_LANES)
    return chosen


def span_mask(
    lengths: Tensor,
    sample_ids: Tensor | None,
    max_length: int,
    rate: float,
    span: int,
    min_spans: int,
    seed: int,
    step: int,
) -> Tensor:
    if values_are_checked(lengths):
        checks.span_mask(lengths, sample_ids, max_length, rate, span, min_spans, seed, step)
    lengths, sample = _rows(lengths, sample_ids, max_length)
    key, rows = signed_key(seed, step), len(lengths)
    mask = torch.empty((rows, max_length), dtype=torch.bool, device=lengths.device)
    if mask.numel() == 0:
        return mask
    words = torch.empty_like(sample)
    count_words_kernel[(triton.cdiv(rows, 128),)](sample, words, rows, *key, BLOCK=128)
    counts = span_counts(lengths, words, rate, span, min_spans)
    starts = _choose(sample, counts, lengths - span + 1, max_length, key)
    begun = torch.empty((rows, max_length), dtype=torch.int32, device=lengths.device)
    span = min(span, max_length)
    cover_kernel[(rows,)](starts, begun, mask, max_length, span, BLOCK=_block(max_length))
    return mask


@functools.lru_cache(maxsize=64)
def _table(limits: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(limits, dtype=torch.int64, device=device)


def geometric_span_groups(
    lengths: Tensor,
    sample_ids: Tensor | None,
    max_length: int,
    budget: float,
    limits: list[int],
    seed: int,
    step: int,
) -> Tensor:
    if values_are_checked(lengths):
        checks.geometric_span_groups(lengths, sample_ids, max_length, budget, limits, seed, step)
    lengths, sample = _rows(lengths, sample_ids, max_length)
    key, rows = signed_key(seed, step), len(lengths)
    groups = torch.full((rows, max_length), -1, dtype=torch.int32, device=lengths.device)
    if groups.numel() == 0:
        return groups
    hidden = hidden_counts(lengths, budget)
    widths, counts = torch.empty_like(groups), torch.empty_like(sample)
    table = _table(tuple(limits), lengths.device)
    sizes = (rows, max_length, len(limits))
    widths_kernel[_lanes(rows)](
        sample, hidden, table, widths, counts, *sizes, *key, STEPS=len(limits).bit_length(), **_LANES
    )
    sizes_of = lengths - hidden + counts
    slots = _choose(sample, counts, sizes_of, max_length, key)
    number_kernel[(rows,)](slots, sizes_of, widths, groups, max_length, BLOCK=_block(max_length))
    return groups


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
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    given, (rows, length) = lengths, ids.shape
    checks.check_numbers(length, seed, step)
    checks.check_texts(ids, noise_density, mean_span, sentinel_start, eos_id, pad_id)
    lengths, sample = _rows(lengths, sample_ids, length)
    noise, spans = noise_counts(lengths, noise_density, mean_span)
    end = 0 if eos_id is None else 1
    input_lengths, target_lengths = lengths - noise + spans + end, noise + spans + end
    widest = most = targets_widest = 0
    if rows:
        wrong = (lengths != given).sum()
        facts = torch.stack([input_lengths.max(), target_lengths.max(), spans.max(), wrong]).tolist()
        widest, targets_widest, most, outside = facts
        if outside or most > sentinel_start + 1:  # says which row
            checks.check_rows(given, length, seed, step)
            checks.check_sentinels(spans, sentinel_start)
    inputs, targets = ids.new_empty((rows, widest)), ids.new_empty((rows, targets_widest))
    if rows == 0:
        return inputs, input_lengths, targets, target_lengths
    # kept stretches and those of noise are drawn alike: as rows of one choice
    tokens, both = torch.cat([lengths - noise, noise]), torch.cat([spans, spans])
    cut_counts, firsts = (both - 1).clamp(min=0), torch.cat([torch.zeros_like(spans), spans - 1])
    cuts = _choose(sample.repeat(2), cut_counts, tokens - 1, length, signed_key(seed, step), firsts)
    edges = torch.zeros((2 * rows, most + 1), dtype=torch.int32, device=ids.device)
    block, ids = _block(length), ids.contiguous()
    edges_kernel[(2 * rows,)](cuts, tokens, both, edges, length, most + 1, BLOCK=block)
    halves = (tensor.split(rows) for tensor in (cuts, tokens, both, edges))
    kept, hidden = zip(*halves, strict=True)
    ends = {"sentinel": sentinel_start, "eos_id": eos_id or 0, "pad_id": pad_id, "EOS": end == 1}
    for side, other, out, is_hidden in ((kept, hidden, inputs, 0), (hidden, kept, targets, 1)):
        if out.numel():
            sizes = (length, out.shape[1], most + 1)
            emit_kernel[(rows,)](ids, *side, other[3], out, *sizes, **ends, HIDDEN=is_hidden, BLOCK=block)
    return inputs, input_lengths, targets, target_lengths


def configurations() -> Iterator[tuple[Any, dict[str, Any], dict[str, Any]]]:
    """(kernel, arguments, options) of the launches that the functions above make."""
    key = {"key_low": "i32", "key_high": "i32"}
    lanes, options = {"rows": "i32", **key, "BLOCK": 32}, {"num_warps": 1}
    yield count_words_kernel, {"sample_ids": "*i64", "words": "*i64", "rows": "i32", **key, "BLOCK": 128}, {}
    choice = {"sample_ids": "*i64", "counts": "*i64", "sizes": "*i64", "chosen": "*i1", "width": "i32"}
    yield choose_kernel, {**choice, **lanes, "firsts": None}, options
    yield choose_kernel, {**choice, **lanes, "firsts": "*i64"}, options
    cover = {"starts": "*i1", "begun": "*i32", "mask": "*i1", "width": "i32", "span": "i32", "BLOCK": 1024}
    yield cover_kernel, cover, {}
    widths = {"sample_ids": "*i64", "hidden": "*i64", "limits": "*i64", "widths": "*i32", "counts": "*i64"}
    yield widths_kernel, {**widths, **lanes, "width": "i32", "n_limits": "i32", "STEPS": 4}, options
    numbers = {"slots": "*i1", "sizes": "*i64", "widths": "*i32", "groups": "*i32", "width": "i32"}
    yield number_kernel, {**numbers, "BLOCK": 512}, {}
    side = {"cuts": "*i1", "tokens": "*i64", "spans": "*i64", "edges": "*i32", "width": "i32", "most": "i32"}
    yield edges_kernel, {**side, "BLOCK": 512}, {}
    for hidden in (0, 1):
        numbers = dict.fromkeys(("length", "sentinel", "eos_id", "pad_id"), "i32")
        tensors = {"ids": "*i64", "others": "*i32", "out": "*i64"}
        flags = {"HIDDEN": hidden, "EOS": True, "BLOCK": 512}
        yield emit_kernel, {**side, **tensors, **numbers, **flags}, {}
