"""Builds the native parts of sslkernels; metadata and tool settings are in pyproject.toml.

    _C_cpu    csrc/<room>/<family>/cpu.cpp    LibTorch stable ABI: one library for every torch from 2.10 on
    _C_cuda   csrc/<room>/<family>/cuda.cu    the same; where nvcc and a CUDA torch are, or FORCE_CUDA=1
    _numpy    csrc/numpy/*.cpp                pybind11: the same cores for NumPy arrays, without torch

Environment: MAX_JOBS (parallel compiler calls), FORCE_CUDA=0|1, TORCH_CUDA_ARCH_LIST,
SSLKERNELS_NATIVE=0 (install the Python files alone; build_ext --inplace builds the rest).
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup

ROOT = Path(__file__).parent.resolve()
CPU_TORCH = "torch==2.13.0"

# One table for all flags. 0x020a... is torch 2.10, the oldest torch the libraries load in.
DEFINES = ["-DTORCH_TARGET_VERSION=0x020a000000000000"]
CXX_FLAGS = [
    "-O3",
    "-std=c++20",
    "-fvisibility=hidden",
    "-fno-math-errno",  # these two change no result; without them no loop with a comparison is a vector loop
    "-fno-trapping-math",
    f"-ffile-prefix-map={ROOT}/=",
    "-Wall",
]
NVCC_FLAGS = ["-O3", "-std=c++20", "--expt-relaxed-constexpr", "-Xcompiler=-fPIC,-fvisibility=hidden"]
CUDA_ARCH_LIST = "8.0;9.0;10.0+PTX"
COMPILERS_AT_ONCE = 4  # a file takes up to 1 GiB: the build stays under 4 GiB unless MAX_JOBS says more


def sources(pattern):
    return sorted(str(path.relative_to(ROOT)) for path in ROOT.glob(pattern))


def wants_cuda(cpp_extension, torch):
    forced = os.environ.get("FORCE_CUDA")
    if forced is not None:
        return forced == "1"
    return torch.version.cuda is not None and cpp_extension.CUDA_HOME is not None


def native_extensions():
    try:
        import torch
        from torch.utils import cpp_extension
    except ImportError:
        sys.exit(
            f"sslkernels: building needs torch first: pip install '{CPU_TORCH}' pybind11 ninja numpy, "
            "then pip install --no-build-isolation ."
        )
    import pybind11

    os.environ.setdefault("MAX_JOBS", str(min(os.cpu_count() or 1, COMPILERS_AT_ONCE)))
    shared = {
        "include_dirs": [str(ROOT / "csrc")],
        "depends": sources("csrc/**/*.h") + sources("csrc/**/*.cuh"),
    }
    extensions = [
        cpp_extension.CppExtension(
            "sslkernels._C_cpu",
            sources("csrc/*/*/cpu.cpp"),
            extra_compile_args={"cxx": CXX_FLAGS + DEFINES},
            py_limited_api=True,
            **shared,
        ),
        Extension(
            "sslkernels._numpy",
            sources("csrc/numpy/*.cpp"),
            language="c++",
            extra_compile_args={"cxx": CXX_FLAGS},
            **{**shared, "include_dirs": [*shared["include_dirs"], pybind11.get_include()]},
        ),
    ]
    cuda_sources = sources("csrc/*/*/cuda.cu")
    if cuda_sources and wants_cuda(cpp_extension, torch):
        os.environ.setdefault("TORCH_CUDA_ARCH_LIST", CUDA_ARCH_LIST)
        extensions.append(
            cpp_extension.CUDAExtension(
                "sslkernels._C_cuda",
                cuda_sources,
                extra_compile_args={
                    "cxx": CXX_FLAGS + DEFINES,
                    "nvcc": [*NVCC_FLAGS, *DEFINES, "-DUSE_CUDA"],
                },
                py_limited_api=True,
                **shared,
            )
        )
    return extensions, {"build_ext": cpp_extension.BuildExtension.with_options(use_ninja=True)}


def needs_native():
    return os.environ.get("SSLKERNELS_NATIVE") != "0" and not {"sdist", "egg_info", "clean"} & set(sys.argv)


ext_modules, commands = native_extensions() if needs_native() else ([], {})
setup(ext_modules=ext_modules, cmdclass=commands)
