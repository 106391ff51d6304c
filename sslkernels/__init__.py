"""Fused, deterministic, drop-in PyTorch operators for the hot paths of self-supervised pretraining.

Rooms: `masking`, `graph`, `eulerian`; `host` is the NumPy face, which imports no torch; `pretrain` the
example trainer. Everything is imported at first use.
"""

import importlib
from typing import Any

from sslkernels._exports import lazy

__version__ = "0.1.0"

_MODULES = ("masking", "graph", "eulerian", "host", "molecules", "pretrain")
_get, _names = lazy(__name__, {"_op": ("use", "backends")})
__all__ = [*_MODULES, *_names]


def __getattr__(name: str) -> Any:
    return importlib.import_module(f"{__name__}.{name}") if name in _MODULES else _get(name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
