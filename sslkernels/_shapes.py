"""The shape line of an operator: what it allows, the one form of its messages.

    "hidden: T D; weight: V D; labels: T int; bias: V?; ptr: S+1 int64?"

An entry names a tensor argument of the schema, then its dimensions, then its kind. A dimension is a name
(bound at its first use), a name with a factor or an offset ("2N", "S+1"), or a number; "()" is a 0-d
tensor and "..." stands for any leading dimensions. "|" separates alternatives. A trailing "?" marks what may
be None. Kinds: float (the default; all such tensors of a call share one dtype), real (any floating dtype,
whatever the others have), int (int32 or int64), int32, int64, bool, any. All tensors share a device.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
KINDS: dict[str, tuple[torch.dtype, ...] | None] = {
    "float": _FLOATS,
    "real": _FLOATS,
    "int": (torch.int32, torch.int64),
    "int32": (torch.int32,),
    "int64": (torch.int64,),
    "bool": (torch.bool,),
    "any": None,
}
_DIMENSION = re.compile(r"(\d*)([A-Z]\w*)?(?:\+(\d+))?$")


@dataclass(frozen=True)
class Dimension:
    """size == factor * symbol + offset; without a symbol the size is `offset`."""

    text: str
    factor: int
    symbol: str | None
    offset: int

    @classmethod
    def parse(cls, text: str) -> "Dimension":
        match = _DIMENSION.match(text)
        if match is None or not text:
            raise ValueError(f"shape line: {text!r} is no dimension")
        number, symbol, offset = match.groups()
        if symbol is None:
            return cls(text, 0, None, int(number))
        return cls(text, int(number or 1), symbol, int(offset or 0))

    def accepts(self, size: int, bound: dict[str, int]) -> bool:
        if self.symbol is None:
            return size == self.offset
        if self.symbol not in bound:
            if self.factor != 1:
                return size % self.factor == 0
            bound[self.symbol] = size - self.offset
            return bound[self.symbol] >= 0
        return size == self.factor * bound[self.symbol] + self.offset


@dataclass(frozen=True)
class Entry:
    """One tensor argument: its alternatives of dimensions, its kind, whether it may be None."""

    name: str
    shapes: tuple[tuple[Dimension, ...], ...]
    leading: bool  # "...": the last dimensions are as given, any others go before them
    kind: str
    optional: bool

    @classmethod
    def parse(cls, text: str) -> "Entry":
        name, _, rest = (part.strip() for part in text.partition(":"))
        optional = rest.endswith("?")
        words = rest.rstrip("?").split()
        kind = words.pop() if words and words[-1] in KINDS else "float"
        leading = "..." in words
        shapes = tuple(
            tuple(Dimension.parse(word) for word in alternative.split() if word not in ("()", "..."))
            for alternative in " ".join(words).split("|")
        )
        return cls(name, shapes, leading, kind, optional)

    def _fits(self, dimensions: tuple[Dimension, ...], shape: torch.Size, bound: dict[str, int]) -> bool:
        if len(shape) < len(dimensions) or (len(shape) > len(dimensions) and not self.leading):
            return False
        last = shape[len(shape) - len(dimensions) :]
        return all(dimension.accepts(size, bound) for dimension, size in zip(dimensions, last, strict=True))

    def check(self, value: object, bound: dict[str, int]) -> None:
        if value is None and self.optional:
            return
        if not isinstance(value, Tensor):
            raise TypeError(
                f"{self.name} must be a tensor{' or None' * self.optional}, got {type(value).__name__}"
            )
        allowed = KINDS[self.kind]
        if allowed is not None and value.dtype not in allowed:
            names = " or ".join(str(dtype).removeprefix("torch.") for dtype in allowed)
            raise ValueError(f"{self.name} must be {names}, got {str(value.dtype).removeprefix('torch.')}")
        shape = value.shape
        if len(self.shapes) == 1:
            if self._fits(self.shapes[0], shape, bound):
                return
        else:
            for dimensions in self.shapes:
                attempt = dict(bound)
                if self._fits(dimensions, shape, attempt):
                    bound.update(attempt)
                    return
        raise ValueError(f"{self.name} must have shape {self.describe(bound)}, got {tuple(shape)}")

    def describe(self, bound: dict[str, int]) -> str:
        """The allowed shapes, with the sizes that other arguments have bound: (T=12, D)."""

        def one(dimension: Dimension) -> str:
            if dimension.symbol is None or dimension.symbol not in bound:
                return dimension.text
            return f"{dimension.text}={dimension.factor * bound[dimension.symbol] + dimension.offset}"

        prefix = ["..."] if self.leading else []
        texts = [", ".join(prefix + [one(dimension) for dimension in shape]) for shape in self.shapes]
        return " or ".join(f"({text})" for text in texts)


class Shapes:
    """The parsed line; `check` raises ValueError or TypeError in one line that names the argument."""

    def __init__(self, line: str) -> None:
        self.entries = tuple(Entry.parse(text) for text in line.split(";") if text.strip())

    def check(self, values: Sequence[object]) -> None:
        """Check the tensor arguments, in the order of the shape line."""
        bound: dict[str, int] = {}
        first: Tensor | None = None
        first_float: Tensor | None = None
        for entry, value in zip(self.entries, values, strict=True):
            entry.check(value, bound)
            if not isinstance(value, Tensor):
                continue
            if first is None:
                first, first_name = value, entry.name
            elif value.device != first.device:
                raise ValueError(
                    f"{entry.name} is on {value.device}, {first_name} on {first.device}: they must share one"
                )
            if entry.kind != "float":
                continue
            if first_float is None:
                first_float, float_name = value, entry.name
            elif value.dtype != first_float.dtype:
                raise ValueError(
                    f"{entry.name} is {value.dtype}, {float_name} {first_float.dtype}: they must share one"
                )


def values_are_checked(tensor: Tensor) -> bool:
    """Whether a Triton kernel looks at values first: on a GPU, which must wait for it, only on request."""
    return not tensor.is_cuda or os.environ.get("SSLKERNELS_CHECK") == "1"
