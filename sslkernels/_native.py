"""Loads the native libraries that are present, once, when the first operator is declared."""

import functools
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
    """Path of the built library `name` ("_C_cpu", "_C_cuda" or "_C_emulated"), or None.

    It lies beside this file, unless SSLKERNELS_LIBRARY_PATH names other folders (sanitizer builds), the first
    that has it.
    """
    folders = os.environ.get("SSLKERNELS_LIBRARY_PATH", str(Path(__file__).parent)).split(os.pathsep)
    return next((path for folder in folders for path in sorted(Path(folder).glob(f"{name}.*so"))), None)


def _load(name: str) -> bool:
    path = library_path(name)
    if path is not None:
        torch.ops.load_library(str(path))
    return path is not None


@functools.cache
def load_emulated() -> bool:
    """Load the CUDA kernels that tests run on the CPU, where they are built; only when asked for."""
    return _load("_C_emulated")


_require_torch(torch.__version__)
has_cpu = _load("_C_cpu")
has_cuda = torch.cuda.is_available() and _load("_C_cuda")
if not has_cpu:
    warnings.warn(
        f"sslkernels: the native CPU library is not built, the slow reference runs: {BUILD_HINT}",
        stacklevel=2,
    )
