"""One file a recipe. A recipe is named by its file here, by a path to a .py file, or by a dotted module."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from sslkernels.pretrain.config import UserError, suggestion

if TYPE_CHECKING:
    from sslkernels.pretrain.recipe import Recipe


def names() -> list[str]:
    """The recipes that come with the package, none of them imported."""
    return sorted(p.stem for p in Path(__file__).parent.glob("*.py") if not p.stem.startswith("_"))


def summary(name: str) -> str:
    """The first line of the recipe's docstring, read without importing it."""
    text = (Path(__file__).parent / f"{name}.py").read_text()
    return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]


def load(name: str) -> type[Recipe]:
    """The recipe class in the module called `name`; raises UserError where there is none."""
    from sslkernels.pretrain.recipe import Recipe

    module = _module(name)
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Recipe) and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise UserError(f"{name} defines {len(found)} subclasses of Recipe, must define one")
    return found[0]


def _module(name: str) -> ModuleType:
    if name.endswith(".py"):
        return _from_file(Path(name))
    if name in names():
        return importlib.import_module(f"{__name__}.{name}")
    if "." in name and all(part.isidentifier() for part in name.split(".")):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not name.startswith(error.name):
                raise
    raise UserError(f"unknown recipe {name!r}{suggestion(name, names())}; see --list")


def _from_file(path: Path) -> ModuleType:
    path = path.resolve()
    if not path.is_file():
        raise UserError(f"unknown recipe {str(path)!r}: no such file")
    name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and workers look a class's module up by name
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
