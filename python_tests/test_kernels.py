"""Every GPU kernel compiles without a GPU, and none spills more than benchmarks/results/kernels.json says."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks import kernels

PTXAS = """ptxas info    : Compiling entry function '_Z3sumPf' for 'sm_90'
ptxas info    : Function properties for _Z3sumPf
    96 bytes stack frame, 80 bytes spill stores, 120 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 96 bytes cumulative stack size, 1024 bytes smem
ptxas info    : Compiling entry function '_Z4copyPf' for 'sm_90'
ptxas info    : Function properties for _Z4copyPf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 10 registers, used 0 barriers
"""


def test_figures_of_ptxas() -> None:
    assert kernels.ptxas_figures(PTXAS) == {
        "_Z3sumPf": {"registers": 255, "stack": 96, "spill_stores": 80, "spill_loads": 120, "shared": 1024},
        "_Z4copyPf": {"registers": 10, "stack": 0, "spill_stores": 0, "spill_loads": 0, "shared": 0},
    }


def test_a_new_spill_and_a_new_kernel_are_told() -> None:
    found = kernels.ptxas_figures(PTXAS)
    assert kernels.worse(found, found) == []
    fine = {name: {**row, "spill_stores": 0, "spill_loads": 0} for name, row in found.items()}
    assert kernels.worse(found, fine) == ["_Z3sumPf: spills 200 bytes, 0 before"]
    assert len(kernels.worse(found, {})) == 3


@pytest.mark.parametrize("head_dim", [16, 256])
def test_a_triton_kernel_that_spills_is_seen(head_dim: int, tmp_path: Path) -> None:
    """A tile that does not fit the registers spills, one that does not: read from the same compiler."""
    pytest.importorskip("triton")
    path = tmp_path / "kernel.py"
    path.write_text(
        "import sys, triton, triton.language as tl\n"
        f"sys.path.insert(0, {str(kernels.ROOT)!r})\n"
        "from benchmarks import kernels\n"
        "@triton.jit\n"
        "def product(a, b, out, D: tl.constexpr):\n"
        "    at = tl.arange(0, D)[:, None] * D + tl.arange(0, D)[None, :]\n"
        "    tl.store(out + at, tl.load(a + at) + tl.load(b + at) * tl.load(a + at + 1))\n"
        "arguments = {'a': '*fp32', 'b': '*fp32', 'out': '*fp32', 'D': int(sys.argv[1])}\n"
        "print(kernels.spills(kernels.compile_triton(product, arguments, {'num_warps': 4}, 90)))\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    command = [sys.executable, str(path), str(head_dim)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert (int(done.stdout) > 0) == (head_dim == 256)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU's own compiler is checked by the contract")
def test_every_kernel_compiles_and_spills_no_more_than_before() -> None:
    if shutil.which("nvcc") is None:
        pytest.importorskip("triton")
    command = [sys.executable, "benchmarks/kernels.py", "--check", "--architectures", "90"]
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=kernels.ROOT)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
