"""masked_linear_cross_entropy, forward and backward, against torch over the scored rows and as users call it.

cut-cross-entropy and Liger-Kernel have kernels for GPUs alone: benchmarks/gpu.py races them where installed.
"""

import importlib.util
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.conftest import Race
from sslkernels.masking import masked_linear_cross_entropy

SCORED = 0.15
SIZES = [(4096, 30522, 256), (1024, 30522, 768)]


def data(rows: int, classes: int, width: int, dtype: torch.dtype = torch.float32) -> SimpleNamespace:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(rows, width, generator=generator).to(dtype).requires_grad_()
    weight = (torch.randn(classes, width, generator=generator) * 0.02).to(dtype).requires_grad_()
    labels = torch.full((rows,), -100)
    chosen = torch.randperm(rows, generator=generator)[: round(SCORED * rows)]
    labels[chosen] = torch.randint(classes, (len(chosen),), generator=generator)
    return SimpleNamespace(hidden=hidden, weight=weight, labels=labels)


def step(loss: Callable[[], Tensor], given: SimpleNamespace) -> Callable[[], object]:
    """Forward and backward; both gradients are made anew."""
    return lambda: torch.autograd.grad(loss().sum(), (given.hidden, given.weight))


def gathered(given: SimpleNamespace, reduction: str = "mean") -> Tensor:
    rows = (given.labels != -100).nonzero().squeeze(1)
    logits = functional.linear(given.hidden[rows], given.weight)
    return functional.cross_entropy(logits.float(), given.labels[rows], reduction=reduction)


def chunked(given: SimpleNamespace, size: int | None) -> Tensor:
    """torch's own loss in chunks, after the gather."""
    rows = (given.labels != -100).nonzero().squeeze(1)
    options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=size)
    return functional.linear_cross_entropy(
        given.hidden[rows], given.weight, given.labels[rows], options=options
    )


def chunked_over_all(given: SimpleNamespace) -> Tensor:
    options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=256)
    return functional.linear_cross_entropy(given.hidden, given.weight, given.labels, options=options)


def over_all(given: SimpleNamespace) -> Tensor:
    return functional.cross_entropy(functional.linear(given.hidden, given.weight), given.labels)


@pytest.mark.parametrize(("rows", "classes", "width"), SIZES)
def test_mean(race: Race, threads: int, rows: int, classes: int, width: int) -> None:
    given = data(rows, classes, width)
    warnings.simplefilter("ignore")  # of torch, where its chunks would not pay
    race(
        f"linear cross entropy mean t={rows} v={classes} d={width} scored=0.15 threads={threads}",
        step(lambda: masked_linear_cross_entropy(given.hidden, given.weight, given.labels), given),
        {
            "gather, linear, ce": step(lambda: gathered(given), given),
            "gather, torch in chunks": step(lambda: chunked(given, 256), given),
            "torch in chunks": step(lambda: chunked_over_all(given), given),
            "linear, ce": step(lambda: over_all(given), given),
        },
        floor={"gather, linear, ce": 1},
        least=3,
    )


@pytest.mark.parametrize(("dtype", "reduction"), [("float32", "none"), ("bfloat16", "mean")])
def test_two_passes(race: Race, threads: int, dtype: str, reduction: str) -> None:
    """Where the logits are multiplied again: any upstream gradient, and 16 bits."""
    rows, classes, width = SIZES[0]
    given = data(rows, classes, width, getattr(torch, dtype))
    ours = lambda: masked_linear_cross_entropy(  # noqa: E731
        given.hidden, given.weight, given.labels, reduction=reduction
    )
    race(
        f"linear cross entropy {reduction} {dtype} t={rows} v={classes} d={width} threads={threads}",
        step(ours, given),
        {"gather, linear, ce": step(lambda: gathered(given, reduction), given)},
        floor={"gather, linear, ce": 1},
        least=3,
    )


def gpu_peers(operator: str, arguments: tuple[Any, ...]) -> dict[str, Callable[[], Any]]:
    """The same on any device, for benchmarks/gpu.py."""
    if operator != "masked_linear_cross_entropy":
        return {}
    given = SimpleNamespace(hidden=arguments[0], weight=arguments[1], labels=arguments[2].long())
    found: dict[str, Callable[[], Any]] = {
        "gather, linear, ce": lambda: gathered(given),
        "linear, ce": lambda: over_all(given),
    }
    if hasattr(functional, "linear_cross_entropy"):
        found["torch in chunks"] = lambda: chunked_over_all(given)
    if given.hidden.is_cuda and importlib.util.find_spec("cut_cross_entropy") is not None:
        from cut_cross_entropy import linear_cross_entropy

        found["cut-cross-entropy"] = lambda: linear_cross_entropy(given.hidden, given.weight, given.labels)
    if given.hidden.is_cuda and importlib.util.find_spec("liger_kernel") is not None:
        from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

        liger = LigerFusedLinearCrossEntropyLoss()
        found["Liger"] = lambda: liger(given.weight, given.hidden, given.labels)
    return found
