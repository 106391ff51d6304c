"""Loads the native libraries that are present, once, when the first operator is declared."""

import os
import warnings
from pathlib import Path

import torch

MINIMUM_TORCH = (2, 10)
BUILD_HINT = "pip install --no-build-isolation . (or, in a checkout, make develop)"


def _require_torch(version: str) -> None:
    parts = tuple(int(part) for part in version.split("+")[0].split(".")[:2])
    if parts < MINIMUM_TORCH:
        needed = ".".join(map(str, MINIMUM_TORCH))
        raise ImportError(
            f"sslkernels needs torch {needed} or newer, found {version}: pip install 'torch>={needed}'"
        )


def library_path(name: str) -> Path | None:
    """Path of the built library `name` ("_C_cpu" or "_C_cuda"), or None.

    It lies beside this file, unless SSLKERNELS_LIBRARY_PATH names another folder (a sanitizer build).
    """
    folder = Path(os.environ.get("SSLKERNELS_LIBRARY_PATH", Path(__file__).parent))
    return next(iter(sorted(folder.glob(f"{name}.*so"))), None)


def _load(name: str) -> bool:
    path = library_path(name)
    if path is not None:
        torch.ops.load_library(str(path))
    return path is not None


_require_torch(torch.__version__)
has_cpu = _load("_C_cpu")
has_cuda = torch.cuda.is_available() and _load("_C_cuda")
if not has_cpu:
    warnings.warn(
        f"sslkernels: the native CPU library is not built, the slow reference runs: {BUILD_HINT}",
        stacklevel=2,
    )
