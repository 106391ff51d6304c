"""sample_tokens in plain torch, in double precision: a block of columns by inversion, then a column of it.

A row's logits x, divided by T, are cut into blocks of BLOCK columns, m_b the largest of block b and M that of
the row. Block b is drawn with probability proportional to sum_j exp((x_j - m_b) / T) exp((m_b - M) / T), then
column j inside it with probability proportional to exp((x_j - m_b) / T). At T = 0 weights are 1 for the
largest and 0 for the others, and the first of them is taken.
"""

import torch
from torch import Tensor

from sslkernels._random import PURPOSE, draw, stream_key

BLOCK = 256
_NONE = float("-inf")


def sample_tokens(
    logits: Tensor,
    allowed: Tensor | None,
    temperature: float,
    row_temperature: Tensor | None,
    sample_ids: Tensor | None,
    seed: int,
    step: int,
) -> Tensor:
    rows, columns = logits.shape
    number = max(1, -(-columns // BLOCK))
    x = logits.double() if allowed is None else logits.double().masked_fill(~allowed, _NONE)
    x = torch.nn.functional.pad(x, (0, number * BLOCK - columns), value=_NONE).view(rows, number, BLOCK)
    each = x.new_full((rows,), temperature) if row_temperature is None else row_temperature.double()
    sample = torch.arange(rows, device=x.device) if sample_ids is None else sample_ids
    words = draw(stream_key(seed, step), sample, PURPOSE.sample_token, torch.zeros_like(sample))

    largest = x.amax(-1)
    weight = _weights(x, largest[..., None], each[:, None, None])
    top = largest.amax(-1)
    mass = weight.sum(-1) * _weights(largest, top[:, None], each[:, None])
    block = _pick(mass, torch.where(each > 0, _unit(words[0], words[1]), 0.0))
    inside = weight[torch.arange(rows, device=x.device), block]
    column = _pick(inside, torch.where(each > 0, _unit(words[2], words[3]), 0.0))
    return torch.where(top.isfinite(), block * BLOCK + column, -1)


def fake(
    logits: Tensor,
    allowed: Tensor | None,
    temperature: float,
    row_temperature: Tensor | None,
    sample_ids: Tensor | None,
    seed: int,
    step: int,
) -> Tensor:
    return logits.new_empty(logits.shape[0], dtype=torch.int64)


def _weights(x: Tensor, largest: Tensor, temperature: Tensor) -> Tensor:
    """exp((x - largest) / temperature), halves because a difference of large logits may overflow.

    The temperature is not halved with them: half of the smallest one is 0.
    """
    shift = torch.where(largest > _NONE, largest, 0.0)
    scaled = (x / 2 - shift / 2) / torch.where(temperature > 0, temperature, 1.0) * 2
    return torch.where(temperature > 0, scaled.exp(), (x == largest).double())


def _unit(low: Tensor, high: Tensor) -> Tensor:
    """A number in [0, 1) of 53 bits."""
    return (high * 2**21 + (low >> 11)).double() * 2.0**-53


def _pick(weight: Tensor, u: Tensor) -> Tensor:
    """The first entry at which the running sum passes u times the total; none of weight 0."""
    running = weight.cumsum(-1)
    passed = (running > u[:, None] * running[:, -1:]) & (weight > 0)
    return passed.byte().argmax(-1)
