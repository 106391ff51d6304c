"""Lazy public names (PEP 562): importing a room costs nothing, and `sslkernels.host` needs no torch."""

import importlib
from collections.abc import Callable
from typing import Any


def lazy(package: str, table: dict[str, tuple[str, ...]]) -> tuple[Callable[[str], Any], list[str]]:
    """`__getattr__` and `__all__` of a package; `table` maps a module below it to the names it gives.

    __getattr__, __all__ = lazy(__name__, {"tokens.op": ("corrupt_tokens",)})
    """
    home = {name: module for module, names in table.items() for name in names}

    def get(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{home[name]}"), name)

    return get, sorted(home)
