"""Linear layer and cross entropy over the scored rows alone; the (T, V) logits are never held."""

import functools

import torch
from torch import Tensor

from sslkernels._op import Op
from sslkernels._shapes import KINDS
from sslkernels.masking.linear_cross_entropy import reference

_REDUCTIONS = ("mean", "sum", "none")

_backward = Op(
    "masked_linear_cross_entropy_backward(Tensor grad_loss, Tensor hidden, Tensor weight, Tensor labels, "
    "Tensor? bias, Tensor lse, SymInt ignore_index, bool[] needs) "
    "-> (Tensor? grad_hidden, Tensor? grad_weight, Tensor? grad_bias)",
    shapes="grad_loss: T real; hidden: T D; weight: V D; labels: T int; bias: V?; lse: T real",
    reference=reference.masked_linear_cross_entropy_backward,
    fake=reference.fake_backward,
)

_forward = Op(
    "masked_linear_cross_entropy(Tensor hidden, Tensor weight, Tensor labels, Tensor? bias, "
    "SymInt ignore_index) -> (Tensor loss, Tensor lse)",
    shapes="hidden: T D; weight: V D; labels: T int; bias: V?",
    reference=reference.masked_linear_cross_entropy,
    fake=reference.fake,
    backward=_backward,
    gradients=("hidden", "weight", "bias"),
    check=reference.check_labels,
)


def masked_linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    bias: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """cross_entropy(linear(hidden, weight, bias), labels) that computes the scored rows only.

    hidden (T, D), weight (V, D), bias (V,) or None: fp32, fp64, fp16 or bf16; unequal dtypes are promoted,
    and each gradient has its input's dtype. labels (T,): int32 or int64, classes in [0, V) or `ignore_index`;
    a row with `ignore_index` is not scored, costs nothing and may hold anything, NaN included. Classes are
    never ignored: `ignore_index` may be one of them and stays in the other rows' denominators.

    Returns the mean or sum over the scored rows (0-d; 0 if there is none), or with reduction="none" the
    losses (T,), 0 where not scored: fp64 for fp64, else fp32. Differentiable once in hidden, weight and bias;
    only the gradients that are asked for are made.

    Raises ValueError for a label out of range, shapes that do not agree, or an unknown reduction; TypeError
    for what is no tensor, and for a DTensor, of which this process holds a part only.

    Cost for S scored rows: 2 S V D operations forward and 6 S V D backward; beside the results at most 32 MB,
    or 1/8 of the (S, V) logits where that is more.
    """
    if reduction not in _REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(_REDUCTIONS)}, got {reduction!r}")
    if not isinstance(ignore_index, int | torch.SymInt):
        raise TypeError(f"ignore_index must be an int, got {type(ignore_index).__name__}")
    _refuse_sharded(hidden=hidden, weight=weight, labels=labels, bias=bias)
    floats = _promoted(hidden, weight, bias)
    loss, _ = _forward(floats[0], floats[1], labels, floats[2], ignore_index)
    if reduction == "none":
        return loss
    total = loss.sum()
    return total if reduction == "sum" else total / (labels != ignore_index).sum().clamp(min=1)


def _refuse_sharded(**tensors: Tensor | None) -> None:
    """FSDP2 leaves its parameters sharded outside their module's forward."""
    for name, value in tensors.items():
        if hasattr(value, "device_mesh"):
            raise TypeError(
                f"{name} is a DTensor (sharded, as FSDP2 keeps parameters outside their module's forward): "
                f"call the loss inside that forward, or pass {name}.full_tensor()"
            )


def _promoted(*tensors: Tensor | None) -> tuple[Tensor | None, ...]:
    """The tensors in their common dtype; dtypes that the operator does not take are left for its checks."""
    dtypes = {value.dtype for value in tensors if isinstance(value, Tensor)}
    if len(dtypes) < 2 or not dtypes.issubset(KINDS["real"] or ()):
        return tensors
    dtype = functools.reduce(torch.promote_types, dtypes)
    return tuple(value.to(dtype) if isinstance(value, Tensor) else value for value in tensors)
