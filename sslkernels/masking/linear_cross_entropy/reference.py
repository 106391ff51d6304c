"""Plain torch: gathers the scored rows and holds their logits. The backward is written out by hand.

With logits x = h W^T + b and lse = log sum_j exp(x_j), a scored row's loss is lse - x_label, and its gradient
with respect to x is softmax(x) - onehot(label) = exp(x - lse) - onehot(label).
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def accumulate_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of losses and sums: fp64 for fp64, else fp32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _scored_logits(
    hidden: Tensor, weight: Tensor, labels: Tensor, bias: Tensor | None, ignore_index: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Numbers of the scored rows, their labels, and their logits in the accumulation dtype."""
    rows = (labels != ignore_index).nonzero().squeeze(1)
    logits = functional.linear(hidden[rows], weight, bias)
    return rows, labels[rows].long(), logits.to(accumulate_dtype(hidden.dtype))


def masked_linear_cross_entropy(
    hidden: Tensor, weight: Tensor, labels: Tensor, bias: Tensor | None, ignore_index: int
) -> tuple[Tensor, Tensor]:
    rows, targets, logits = _scored_logits(hidden, weight, labels, bias, ignore_index)
    loss = hidden.new_zeros(labels.shape, dtype=logits.dtype)
    lse = torch.zeros_like(loss)
    if rows.numel():  # without a row there may be no class either, which logsumexp refuses
        lse[rows] = logits.logsumexp(1)
        loss[rows] = lse[rows] - logits.gather(1, targets[:, None]).squeeze(1)
    return loss, lse


def fake(
    hidden: Tensor, weight: Tensor, labels: Tensor, bias: Tensor | None, ignore_index: int
) -> tuple[Tensor, Tensor]:
    loss = hidden.new_empty(labels.shape, dtype=accumulate_dtype(hidden.dtype))
    return loss, torch.empty_like(loss)


def masked_linear_cross_entropy_backward(
    grad_loss: Tensor,
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    bias: Tensor | None,
    lse: Tensor,
    ignore_index: int,
    needs: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    rows, targets, logits = _scored_logits(hidden, weight, labels, bias, ignore_index)
    gradient = (logits - lse[rows, None]).exp()
    gradient[torch.arange(len(rows), device=rows.device), targets] -= 1
    gradient = (gradient * grad_loss[rows, None]).to(hidden.dtype)
    grad_hidden = hidden.new_zeros(hidden.shape).index_copy(0, rows, gradient @ weight) if needs[0] else None
    grad_weight = gradient.mT @ hidden[rows] if needs[1] else None
    grad_bias = gradient.sum(0) if needs[2] and bias is not None else None
    return grad_hidden, grad_weight, grad_bias


def fake_backward(
    grad_loss: Tensor,
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    bias: Tensor | None,
    lse: Tensor,
    ignore_index: int,
    needs: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    return (
        hidden.new_empty(hidden.shape) if needs[0] else None,
        weight.new_empty(weight.shape) if needs[1] else None,
        bias.new_empty(bias.shape) if needs[2] and bias is not None else None,
    )


def masked_linear_cross_entropy_with_gradients(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    bias: Tensor | None,
    ignore_index: int,
    mean: bool,
    needs: Sequence[bool],
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    inputs = (hidden, weight, labels, bias)
    loss, lse = masked_linear_cross_entropy(*inputs, ignore_index)
    count = (labels != ignore_index).sum().clamp(min=1)
    factor = 1 / (count if mean else torch.ones_like(count)).to(loss.dtype)
    upstream = factor.expand(loss.shape)
    found = masked_linear_cross_entropy_backward(upstream, *inputs, lse, ignore_index, needs)
    hidden_gradient, weight_gradient, bias_gradient = (
        None if gradient is None else gradient.to(loss.dtype) for gradient in found
    )
    return loss, hidden_gradient, weight_gradient, bias_gradient


def fake_with_gradients(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    bias: Tensor | None,
    ignore_index: int,
    mean: bool,
    needs: Sequence[bool],
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    dtype = accumulate_dtype(hidden.dtype)
    return (
        hidden.new_empty(labels.shape, dtype=dtype),
        hidden.new_empty(hidden.shape, dtype=dtype) if needs[0] else None,
        weight.new_empty(weight.shape, dtype=dtype) if needs[1] else None,
        bias.new_empty(bias.shape, dtype=dtype) if needs[2] and bias is not None else None,
    )
