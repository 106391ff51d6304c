"""Spans in plain torch: the oracle of the kernels' bits. What is drawn how: csrc/masking/spans/core.h."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from sslkernels._random import PURPOSE, bounded, draw, draw_word, stream_key
from sslkernels.masking.spans.counts import hidden_counts, noise_counts, span_counts

Key = tuple[int, int]


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
    lengths, sample, key = *_rows(lengths, sample_ids), stream_key(seed, step)
    word = draw(key, sample, PURPOSE.span_count, torch.zeros_like(sample))[0]
    counts = span_counts(lengths, word, rate, span, min_spans)
    starts = _choose(key, sample, counts, lengths - span + 1, max_length)
    begun = starts.long().cumsum(1)
    ended = pad(begun, (min(span, max_length), 0))[:, :max_length]
    return begun > ended


def geometric_span_groups(
    lengths: Tensor,
    sample_ids: Tensor | None,
    max_length: int,
    budget: float,
    limits: list[int],
    seed: int,
    step: int,
) -> Tensor:
    lengths, sample, key = *_rows(lengths, sample_ids), stream_key(seed, step)
    hidden = hidden_counts(lengths, budget)
    widths, counts = _span_widths(key, sample, hidden, limits)
    slots = _choose(key, sample, counts, lengths - hidden + counts, max_length)
    groups = torch.full((len(lengths), max_length), -1, dtype=torch.int32, device=lengths.device)
    for row, chosen in enumerate(slots):
        wider = 0  # by how much the spans so far are wider than their slots
        for number, slot in enumerate(chosen.nonzero().flatten().tolist()):
            width = int(widths[row, number])
            groups[row, slot + wider : slot + wider + width] = number
            wider += width - 1
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
    lengths, sample, key = *_rows(lengths, sample_ids), stream_key(seed, step)
    noise, spans = noise_counts(lengths, noise_density, mean_span)
    width = ids.shape[1]
    kept_ends = _choose(key, sample, spans - 1, lengths - noise - 1, width)
    noise_ends = _choose(key, sample, spans - 1, noise - 1, width, spans - 1)
    end = ids.new_tensor([] if eos_id is None else [eos_id])
    inputs, targets = [], []
    for row, length in enumerate(lengths.tolist()):
        if spans[row] == 0:
            inputs.append(torch.cat([ids[row, :length], end]))
            targets.append(end)
            continue
        kept = _stretches(kept_ends[row], length - int(noise[row]))
        hidden = _stretches(noise_ends[row], int(noise[row]))
        parts = ids[row, :length].split(_alternate(kept, hidden))
        sentinels = [ids.new_tensor([sentinel_start - number]) for number in range(len(kept))]
        inputs.append(torch.cat([*_alternate(parts[::2], sentinels), end]))
        targets.append(torch.cat([*_alternate(sentinels, parts[1::2]), end]))
    return *_padded(inputs, ids, pad_id), *_padded(targets, ids, pad_id)


def _rows(lengths: Tensor, sample_ids: Tensor | None) -> tuple[Tensor, Tensor]:
    default = torch.arange(len(lengths), device=lengths.device)
    return lengths.long(), default if sample_ids is None else sample_ids


def _choose(
    key: Key, sample: Tensor, count: Tensor, size: Tensor, width: int, first: Tensor | None = None
) -> Tensor:
    """(B, width) bool: `count` different places of [0, size) of each row, every set of them alike.

    Floyd's method (Bentley and Floyd, CACM 30(9), 1987): step i draws one of the first size - count + i + 1
    places and, where that one is taken, takes the last of them. Its word is the one at `first` + i.
    """
    chosen = torch.zeros((len(count), width), dtype=torch.bool, device=count.device)
    for step in range(max(count.tolist(), default=0)):
        row = (count > step).nonzero().flatten()
        last = (size - count + step)[row]
        at = torch.full_like(row, step) if first is None else first[row] + step
        place = bounded(draw_word(key, sample[row], PURPOSE.span_place, at), last + 1)
        chosen[row, torch.where(chosen[row, place], last, place)] = True
    return chosen


def _span_widths(key: Key, sample: Tensor, hidden: Tensor, limits: list[int]) -> tuple[Tensor, Tensor]:
    """(B, most) widths of the spans that fill `hidden` positions, and how many they are.

    The last one is cut to fit and then changes places with one drawn uniformly: spans are exchangeable.
    """
    at = torch.arange(max(hidden.tolist(), default=0), device=hidden.device)
    words = draw_word(key, sample[:, None], PURPOSE.span_length, at[None, :])
    drawn = 1 + torch.searchsorted(
        torch.tensor(limits, dtype=torch.int64, device=at.device), words, right=True
    )
    before = drawn.cumsum(1) - drawn
    widths = torch.minimum(drawn, (hidden[:, None] - before).clamp(min=0))
    counts = (widths > 0).sum(1)
    row = (counts > 0).nonzero().flatten()
    last = counts[row] - 1
    other = bounded(draw(key, sample[row], PURPOSE.span_count, torch.zeros_like(row))[1], counts[row])
    widths[row, last], widths[row, other] = widths[row, other], widths[row, last]
    return widths, counts


def _stretches(ends: Tensor, tokens: int) -> list[int]:
    """Sizes of the stretches of `tokens` tokens that end after the places marked, and at the last token."""
    edges = [-1, *ends.nonzero().flatten().tolist(), tokens - 1]
    return [right - left for left, right in itertools.pairwise(edges)]


def _alternate(left: Sequence, right: Sequence) -> list:
    return [item for pair in zip(left, right, strict=True) for item in pair]


def _padded(rows: list[Tensor], ids: Tensor, pad_id: int) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64, device=ids.device)
    if not rows:
        return ids.new_empty((0, 0)), lengths
    return pad_sequence(rows, batch_first=True, padding_value=pad_id), lengths
