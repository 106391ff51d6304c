"""Problem lines: an operator and its sizes in one line, which tests, benchmarks and the command line share.

    corrupt_tokens b=4 l=33 rate=0.15 seed=7

The words after the operator's name are keywords of the function of that name in the family's problems.py. It
returns the operator's arguments as a dict; `dtype` is given as fp64, fp32, fp16 or bf16.
"""

import importlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sslkernels import _op

DTYPES = {"fp64": torch.float64, "fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_WORDS = {"none": None, "true": True, "false": False}


def parse(line: str) -> tuple[str, dict[str, Any]]:
    """A line's operator and keywords; ValueError where a word is not key=value."""
    name, *words = line.split() or [""]
    keywords = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.isidentifier():
            raise ValueError(f"problem line: {word!r} is not key=value")
        keywords[key] = _parse_value(value)
    return name, keywords


def _parse_value(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def problems_of(op: "_op.Op") -> Any:
    """The family's problems.py."""
    return importlib.import_module(f"{op.package}.problems")


def lines_of(op: "_op.Op") -> Iterator[str]:
    """The problem lines of one operator."""
    return (line for line in problems_of(op).LINES if line.split()[0] == op.name)


def find(name: str) -> "_op.Op":
    """The operator of this name; ValueError lists the known ones."""
    _op.declare_all()
    if name not in _op.OPS:
        raise ValueError(f"no operator {name!r}; there are {', '.join(sorted(_op.OPS))}")
    return _op.OPS[name]


def inputs_of(op: "_op.Op", make: Callable[..., dict[str, Any]], keywords: dict[str, Any]) -> tuple[Any, ...]:
    """The arguments of `op`, in the schema's order, made by a problem function."""
    known = inspect.signature(make).parameters
    for key in keywords:
        if key not in known:
            raise ValueError(f"problem line: {op.name} has no keyword {key!r}; it has {', '.join(known)}")
    given = dict(keywords)
    if "dtype" in given:
        if given["dtype"] not in DTYPES:
            raise ValueError(f"problem line: dtype must be one of {', '.join(DTYPES)}, got {given['dtype']}")
        given["dtype"] = DTYPES[given["dtype"]]
    try:
        made = make(**given)
    except TypeError as error:  # a keyword missing, or of the wrong type
        raise ValueError(f"problem line: {op.name}: {error}") from error
    if set(made) != set(op.arguments):
        raise ValueError(f"problems.{op.name} makes {sorted(made)}, the schema has {sorted(op.arguments)}")
    return tuple(made[name] for name in op.arguments)


def inputs(line: str) -> tuple["_op.Op", tuple[Any, ...]]:
    """The operator of a problem line and its arguments."""
    name, keywords = parse(line)
    op = find(name)
    return op, inputs_of(op, getattr(problems_of(op), name), keywords)


# -- comparing with the reference --------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """One result or gradient beside the reference: `error` and what is `allowed`, in units of its values."""

    name: str
    error: float
    allowed: float

    @property
    def ok(self) -> bool:
        return self.error <= self.allowed  # False for NaN


def as_double(value: Any) -> Any:
    """A float tensor in float64, anything else as it is."""
    return value.detach().double() if isinstance(value, Tensor) and value.is_floating_point() else value


def run(op: "_op.Op", args: tuple[Any, ...], backend: str, gradients: bool = True) -> dict[str, Any]:
    """Results by name and, as grad_<input>, gradients for fixed upstream ones, on `backend`."""
    args = tuple(_leaf(op, name, value, gradients) for name, value in zip(op.arguments, args, strict=True))
    with _op.use(backend):
        results = _op._as_tuple(op(*args))
        named = {
            name or f"result{at}": value
            for at, (name, value) in enumerate(zip(op.results, results, strict=True))
        }
        wanted = [value for value in named.values() if isinstance(value, Tensor) and value.requires_grad]
        found = {}
        if gradients and op.backward is not None and wanted:
            leaves = {
                n: v for n, v in zip(op.arguments, args, strict=True) if n in op.gradients and v is not None
            }
            upstream = [_upstream(value) for value in wanted]
            grads = torch.autograd.grad(wanted, list(leaves.values()), upstream, allow_unused=True)
            found = {f"grad_{name}": grad for name, grad in zip(leaves, grads, strict=True)}
    return {**{n: v.detach() if isinstance(v, Tensor) else v for n, v in named.items()}, **found}


def _leaf(op: "_op.Op", name: str, value: Any, gradients: bool) -> Any:
    if not isinstance(value, Tensor) or name not in op.gradients or not value.is_floating_point():
        return value
    return value.detach().requires_grad_(gradients)


def _upstream(value: Tensor) -> Tensor:
    """A fixed upstream gradient without a pattern that sums could hide: cos(1), cos(2), ..."""
    steps = torch.arange(1, value.numel() + 1, dtype=torch.float64, device=value.device)
    return torch.cos(steps).reshape(value.shape).to(value.dtype)


def _error(found: Tensor, exact: Tensor) -> Tensor:
    """|found - exact|, 0 where both are the same infinity or both NaN."""
    same = (found == exact) | (found.isnan() & exact.isnan())
    return torch.where(same, 0.0, (found - exact).abs())


def compare(op: "_op.Op", args: tuple[Any, ...], backend: str) -> list[Difference]:
    """`backend` against the reference, results and gradients.

    Integers: equal bits. Floats: at most twice the error of the reference in the inputs' dtype (eager torch),
    both against float64, plus one ulp of the result's dtype. In float64 eager torch is itself the standard:
    its error is taken to be float32's, in units of either's epsilon, and both sides may be off by twice that.
    """
    ours, eager = run(op, args, backend), run(op, args, "reference")
    exact = run(op, tuple(map(as_double, args)), "reference")
    doubles = any(isinstance(value, Tensor) and value.dtype == torch.float64 for value in args)
    single_error = _single_errors(op, args) if doubles else {}
    differences = []
    for name, value in ours.items():
        if value is None or eager[name] is None:
            differences.append(Difference(name, 0.0 if value is eager[name] else float("inf"), 0.0))
        else:
            slack = single_error.get(name, 0.0)
            differences.append(_difference(name, value, eager[name], exact[name], slack))
    return differences


def _single_errors(op: "_op.Op", args: tuple[Any, ...]) -> dict[str, float]:
    """The largest error of each float result of the reference in float32, as it would be in float64."""
    singles = tuple(
        value.float() if isinstance(value, Tensor) and value.is_floating_point() else value for value in args
    )
    found, exact = run(op, singles, "reference"), run(op, tuple(map(as_double, singles)), "reference")
    scale = torch.finfo(torch.float64).eps / torch.finfo(torch.float32).eps
    errors = {}
    for name, value in found.items():
        if isinstance(value, Tensor) and value.is_floating_point() and value.numel():
            error = _error(value.double(), exact[name].double())
            errors[name] = scale * float(error.nan_to_num(0.0, 0.0, 0.0).max())
    return errors


def _difference(name: str, ours: Tensor, eager: Tensor, exact: Tensor, slack: float) -> Difference:
    if ours.shape != eager.shape or ours.dtype != eager.dtype:
        return Difference(
            f"{name}: {ours.dtype}{tuple(ours.shape)}, not {eager.dtype}{tuple(eager.shape)}",
            float("inf"),
            0.0,
        )
    if ours.numel() == 0:
        return Difference(name, 0.0, 0.0)
    if not ours.is_floating_point():
        return Difference(name, float((ours != eager).sum()), 0.0)
    error = _error(ours.double(), exact)
    budget = 2 * _error(eager.double(), exact).max() + 4 * slack
    finite = torch.where(exact.isfinite(), exact.abs(), 0.0)
    allowed = budget + torch.finfo(ours.dtype).eps * finite
    worst = int((error - allowed).nan_to_num(nan=float("inf")).argmax())
    return Difference(name, float(error.flatten()[worst]), float(allowed.flatten()[worst]))
