"""How many positions and spans a row has: float64, rounded step by step as csrc/masking/spans/core.h does."""

import torch
from torch import Tensor


def span_counts(lengths: Tensor, word: Tensor, rate: float, span: int, min_spans: int) -> Tensor:
    """floor(rate * length / span + word / 2^32) in whole 2^-32, as far as there are starts.

    A count that is whole but for rounding is that count, whatever the word.
    """
    starts = (lengths - span + 1).clamp(min=0)
    expected = (lengths.double() * rate / span).minimum(lengths.double())
    counts = ((expected * 4294967296.0 + 0.5).long() + word) >> 32
    return counts.clamp(min=min_spans).minimum(starts)


def hidden_counts(lengths: Tensor, budget: float) -> Tensor:
    """ceil(budget * length - 1e-6)."""
    return (lengths.double() * budget - 1e-6).ceil().clamp(min=0).long()


def noise_counts(lengths: Tensor, noise_density: float, mean_span: float) -> tuple[Tensor, Tensor]:
    """How many tokens of each row are noise, and in how many spans; none in rows shorter than 2."""
    length = lengths.double()
    noise = (length * noise_density).round().clamp(min=1).minimum(length - 1)
    spans = (noise / mean_span).round().clamp(min=1).minimum(torch.minimum(noise, length - noise))
    short = lengths < 2
    return noise.long().masked_fill(short, 0), spans.long().masked_fill(short, 0)
