"""Arguments that are plain numbers or flags: one form of check and message, without torch."""

import numbers
import operator
from typing import Any

LARGEST = (1 << 63) - 1


def as_int(name: str, value: Any, low: int = -LARGEST - 1, high: int = LARGEST) -> int:
    """`value` as an int in [low, high]; TypeError or ValueError that names it. True and False are no ints."""
    if isinstance(value, bool):
        raise TypeError(f"{name} must be an int, got bool")
    if not isinstance(value, int):  # a number that torch.compile traces passes for one
        if type(value).__name__ == "SymInt":  # one of torch.export: a look would fix it; the kernel checks it
            return value
        try:
            value = operator.index(value)
        except Exception:  # arrays and tensors raise what they like
            raise TypeError(f"{name} must be an int, got {type(value).__name__}") from None
    if not low <= value <= high:
        upper = "2^63)" if high == LARGEST else f"{high}]"
        lower = "-2^63" if low == -LARGEST - 1 else low
        raise ValueError(f"{name} must lie in [{lower}, {upper}, got {value}")
    return value


def as_bool(name: str, value: Any) -> bool:
    """`value`, if it is True or False; TypeError that names it."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, got {type(value).__name__}")
    return value


def as_float(name: str, value: Any) -> float:
    """`value` as a float, NumPy's numbers included; TypeError or ValueError that names it."""
    if isinstance(value, bool) or not isinstance(value, int | float | numbers.Real):
        raise TypeError(f"{name} must be a float, got {type(value).__name__}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} must be a float, got an int beyond the largest one") from None


def one_of(name: str, value: Any, choices: tuple[str, ...]) -> str:
    """`value`, if it is one of these words; TypeError or ValueError that names it."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be one of {', '.join(choices)}, got {type(value).__name__}")
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
    return value


def threshold(p: float) -> int:
    """floor(p * 2^32 + 1/2): `word < threshold(p)` happens with probability p, 1 included."""
    return int(p * 4294967296.0 + 0.5)


def require_seed(function: str, seed: Any, step: Any) -> tuple[int, int]:
    """seed and step as ints in [0, 2^63); ValueError names seed where a function draws without one."""
    if seed is None:
        raise ValueError(f"{function}: seed must be given (an int in [0, 2^63)), because it draws at random")
    return as_int("seed", seed, 0), as_int("step", step, 0)
