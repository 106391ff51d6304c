"""Linear layer and cross entropy over the scored rows alone; the (T, V) logits are never held."""

import functools
from typing import Any

import torch
from torch import Tensor

from sslkernels._op import Op
from sslkernels._shapes import KINDS
from sslkernels.masking.linear_cross_entropy import checks, reference

_REDUCTIONS = ("mean", "sum", "none")

_backward = Op(
    "masked_linear_cross_entropy_backward(Tensor grad_loss, Tensor hidden, Tensor weight, Tensor labels, "
    "Tensor? bias, Tensor lse, SymInt ignore_index, bool[] needs) "
    "-> (Tensor? grad_hidden, Tensor? grad_weight, Tensor? grad_bias)",
    shapes="grad_loss: T real; hidden: T D; weight: V D; labels: T int; bias: V?; lse: T real",
    reference=reference.masked_linear_cross_entropy_backward,
    fake=reference.fake_backward,
    triton=True,
)

_forward = Op(
    "masked_linear_cross_entropy(Tensor hidden, Tensor weight, Tensor labels, Tensor? bias, "
    "SymInt ignore_index) -> (Tensor loss, Tensor lse)",
    shapes="hidden: T D; weight: V D; labels: T int; bias: V?",
    reference=reference.masked_linear_cross_entropy,
    fake=reference.fake,
    backward=_backward,
    gradients=("hidden", "weight", "bias"),
    check=checks.check_labels,
    triton=True,
)

_with_gradients = Op(
    "masked_linear_cross_entropy_with_gradients(Tensor hidden, Tensor weight, Tensor labels, Tensor? bias, "
    "SymInt ignore_index, bool mean, bool[] needs) -> (Tensor loss, Tensor? hidden_gradient, "
    "Tensor? weight_gradient, Tensor? bias_gradient)",
    shapes="hidden: T D; weight: V D; labels: T int; bias: V?",
    reference=reference.masked_linear_cross_entropy_with_gradients,
    fake=reference.fake_with_gradients,
    check=lambda *args: checks.check_labels(*args[:5]),
    exceptions={"cuda": "not used there: the logits are multiplied again in the backward"},
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

    Raises ValueError for a label out of range (on a GPU such a row is not scored, unless SSLKERNELS_CHECK=1),
    shapes that do not agree, or an unknown reduction; TypeError for what is no tensor, and for a DTensor, of
    which this process holds a part only.

    Cost for S scored rows: 2 S V D operations, and 4 S V D for the gradients (6 S V D with reduction="none",
    in 16 bits and on GPU, where the logits are multiplied again); beside the results at most 32 MB, or 1/8 of
    the (S, V) logits where that is more. A mean or sum makes fp32 and fp64 gradients on CPU in its forward.
    On a GPU every 256 columns of a gradient (fp32: 128, fp64: 64) multiply the logits again, and products of
    fp32 are fp32's own, not TF32's.
    """
    if reduction not in _REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(_REDUCTIONS)}, got {reduction!r}")
    if not isinstance(ignore_index, int | torch.SymInt):
        raise TypeError(f"ignore_index must be an int, got {type(ignore_index).__name__}")
    _refuse_sharded(hidden=hidden, weight=weight, labels=labels, bias=bias)
    hidden, weight, bias = _promoted(hidden, weight, bias)
    if reduction != "none" and _makes_gradients_at_once(hidden, weight, bias):
        loss: Tensor = _ScoredLoss.apply(hidden, weight, labels, bias, ignore_index, reduction == "mean")
        return loss
    loss, _ = _forward(hidden, weight, labels, bias, ignore_index)
    if reduction == "none":
        return loss
    return _total(loss, labels, ignore_index, weight.shape[0], reduction == "mean")


def _total(loss: Tensor, labels: Tensor, ignore_index: int, classes: int, mean: bool) -> Tensor:
    """The sum, or the mean over the scored rows; on a GPU an unchecked label out of range is not scored."""
    if not mean:
        return loss.sum()
    scored = labels != ignore_index
    if labels.is_cuda:
        scored &= (labels >= 0) & (labels < classes)
    return loss.sum() / scored.sum().clamp(min=1)


def _makes_gradients_at_once(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether the gradients of a scalar loss are made with the logits of its forward pass.

    That saves one of four products. 16-bit gradients are made in the backward: kept until then, they would
    have to be 32-bit sums, as a loss scale in the upstream gradient comes too late for what underflowed.
    """
    inputs = [x for x in (hidden, weight, bias) if isinstance(x, Tensor)]
    wanted = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    return wanted and hidden.dtype in (torch.float32, torch.float64) and _with_gradients.serves(hidden)


class _ScoredLoss(torch.autograd.Function):
    """A scalar loss whose gradients, made in the forward, only wait for the upstream gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        labels: Tensor,
        bias: Tensor | None,
        ignore_index: int,
        mean: bool,
    ) -> Tensor:
        needs = [ctx.needs_input_grad[at] for at in (0, 1, 3)]
        loss, *gradients = _with_gradients(hidden, weight, labels, bias, ignore_index, mean, needs)
        ctx.save_for_backward(hidden, weight, bias, *gradients)
        return _total(loss, labels, ignore_index, weight.shape[0], mean)

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, *gradients = ctx.saved_tensors
        with torch.no_grad():
            scaled = _scaled(gradients, grad_loss)
        if torch.is_grad_enabled():
            scaled = [None if g is None else _Once.apply(g, grad_loss, hidden, weight, bias) for g in scaled]
        return scaled[0], scaled[1], None, scaled[2], None, None


def _scaled(gradients: list[Tensor | None], factor: Tensor) -> list[Tensor | None]:
    """The gradients times a 0-d factor: in place where nobody else sees them, and by one without a pass."""
    if torch.compiler.is_compiling() or _graph_is_kept():
        return [None if g is None else g * factor for g in gradients]
    if type(factor) is Tensor and factor.device.type == "cpu" and factor.item() == 1:
        return gradients
    return [None if g is None else g.mul_(factor) for g in gradients]


def _graph_is_kept() -> bool:
    """Whether this backward may run again: then it must not scale what is saved in place."""
    kept: bool = torch._C._autograd._get_current_graph_task_keep_graph()
    return kept


class _Once(torch.autograd.Function):
    """A gradient as it is; its own derivative is an error."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, *inputs: Tensor | None) -> Tensor:
        return gradient.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise RuntimeError("sslkernels: masked_linear_cross_entropy is differentiable once")


def _refuse_sharded(**tensors: Tensor | None) -> None:
    """FSDP2 leaves its parameters sharded outside their module's forward."""
    for name, value in tensors.items():
        if hasattr(value, "device_mesh"):
            raise TypeError(
                f"{name} is a DTensor (sharded, as FSDP2 keeps parameters outside their module's forward): "
                f"call the loss inside that forward, or pass {name}.full_tensor()"
            )


def _promoted(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """The tensors in their common dtype; dtypes that the operator does not take are left for its checks."""
    dtypes = {value.dtype for value in (hidden, weight, bias) if isinstance(value, Tensor)}
    if len(dtypes) < 2 or not dtypes.issubset(KINDS["real"] or ()):
        return hidden, weight, bias
    dtype = functools.reduce(torch.promote_types, dtypes)
    return hidden.to(dtype), weight.to(dtype), bias.to(dtype) if isinstance(bias, Tensor) else bias
