"""What a compiler makes of every GPU kernel, without a GPU: registers, stack, spills, shared memory.

python benchmarks/kernels.py [ROOM ...] [--check]

CUDA: each cuda.cu by nvcc for sm_80, sm_90 and sm_100, with ptxas -v. Triton: each configuration that a
triton_kernels.py yields (see CONTRIBUTING.md) for sm_90, the first of each kernel for sm_80 and sm_100 too.
The table is results/kernels.json, so that a change which spills shows in review; --check writes nothing and
exits with 1 where a kernel spills more than the table says or is not in it. The rows of a compiler that is
not here (nvcc, triton) stay as they were.
"""

import argparse
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
TABLE = ROOT / "benchmarks" / "results" / "kernels.json"
ARCHITECTURES = (80, 90, 100)
FIGURES = ("registers", "stack", "spill_stores", "spill_loads", "shared")
Row = dict[str, int]

# -- CUDA ----------------------------------------------------------------------------------------------------


def cuda_rows(rooms: list[str], architectures: Sequence[int]) -> dict[str, Row]:
    """Rows of every cuda.cu, by "kernel sm_90"; a file takes some 10 seconds an architecture."""
    sources = sorted(path for room in rooms for path in ROOT.glob(f"csrc/{room}/*/cuda.cu"))
    jobs = [(source, architecture) for source in sources for architecture in architectures]
    with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS", "2"))) as pool:
        tables = pool.map(lambda job: compile_cuda(*job), jobs)
    return {name: row for table in tables for name, row in table.items()}


def compile_cuda(source: Path, architecture: int) -> dict[str, Row]:
    """nvcc's figures for one file; RuntimeError with its message where it does not compile."""
    import torch

    include = Path(torch.__file__).parent / "include"
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *("nvcc", "-std=c++20", "-O3", "-DUSE_CUDA", "-DTORCH_TARGET_VERSION=0x020a000000000000"),
            *("--expt-relaxed-constexpr", "-Xcompiler=-fPIC,-fvisibility=hidden", "-Xptxas=-v"),
            *("-gencode", f"arch=compute_{architecture},code=sm_{architecture}"),
            *(f"-I{include}", f"-I{include}/torch/csrc/api/include", f"-I{ROOT / 'csrc'}"),
            *("-c", str(source), "-o", f"{folder}/cuda.o"),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{source.relative_to(ROOT)} for sm_{architecture}: {done.stderr}")
    family = "/".join(source.parts[-3:-1])
    found = ptxas_figures(done.stderr)
    names = readable(list(found))
    return {f"{family} {names[name]} sm_{architecture}": row for name, row in found.items()}


def ptxas_figures(text: str) -> dict[str, Row]:
    """What ptxas -v says of each entry function."""
    rows: dict[str, Row] = {}
    name = ""
    for line in text.splitlines():
        if entry := re.search(r"Compiling entry function '(\w+)'", line):
            name = entry.group(1)
            rows[name] = dict.fromkeys(FIGURES, 0)
        elif spills := re.search(
            r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill", line
        ):
            rows[name].update(zip(FIGURES[1:4], map(int, spills.groups()), strict=True))
        elif registers := re.search(r"Used (\d+) registers", line):
            shared = re.search(r"(\d+) bytes smem", line)
            rows[name].update(registers=int(registers.group(1)), shared=int(shared.group(1)) if shared else 0)
    return rows


def readable(names: list[str]) -> dict[str, str]:
    """Demangled without namespaces and parameters: "short_softmax_kernel<float, long>"."""
    done = subprocess.run(["c++filt", *names], capture_output=True, text=True, check=True)
    texts = [
        re.sub(r"\(anonymous namespace\)::|\b\w+::|^void ", "", line) for line in done.stdout.splitlines()
    ]
    return {name: text.split("(", 1)[0] for name, text in zip(names, texts, strict=True)}


# -- Triton --------------------------------------------------------------------------------------------------


def triton_rows(rooms: list[str], architectures: Sequence[int]) -> dict[str, Row]:
    """Rows of every declared configuration; each takes half a second to a quarter of a minute."""
    rows: dict[str, Row] = {}
    seen = set()
    for family, kernel, arguments, options in configurations(rooms):
        named = " ".join(f"{key}={value}" for key, value in {**arguments, **options}.items())
        first = (family, kernel.__name__) not in seen
        seen.add((family, kernel.__name__))
        for architecture in architectures if first else (90,):
            row = compile_triton(kernel, arguments, options, architecture)
            rows[f"{family} {kernel.__name__} {named} sm_{architecture}"] = row
    return rows


def configurations(rooms: list[str]) -> Iterator[tuple[str, Any, dict[str, Any], dict[str, Any]]]:
    """(family, kernel, arguments, options), autotuned kernels in each of their configs."""
    for room in rooms:
        for path in sorted(ROOT.glob(f"sslkernels/{room}/*/triton_kernels.py")):
            family = "/".join(path.parts[-3:-1])
            module = importlib.import_module(f"sslkernels.{family.replace('/', '.')}.triton_kernels")
            for kernel, arguments, options in module.configurations():
                for config in getattr(kernel, "configs", [None]):
                    more, chosen = {}, options
                    if config is not None:
                        more = dict(config.kwargs)
                        chosen = {**options, "num_warps": config.num_warps, "num_stages": config.num_stages}
                    yield family, unwrapped(kernel), {**arguments, **more}, chosen


def unwrapped(kernel: Any) -> Any:
    """The jitted function under autotune and heuristics."""
    while not hasattr(kernel, "params"):
        kernel = kernel.fn
    return kernel


def compile_triton(kernel: Any, arguments: dict[str, Any], options: dict[str, Any], architecture: int) -> Row:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature, constants, attributes = {}, {}, {}
    for at, parameter in enumerate(kernel.params):
        value = arguments[parameter.name]
        if parameter.is_constexpr or value is None:
            signature[parameter.name], constants[parameter.name] = "constexpr", value
        else:
            signature[parameter.name] = value
            if value.startswith("*"):
                attributes[(at,)] = [["tt.divisibility", 16]]
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
    made = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
    return {**assembled(made.asm["ptx"]), "shared": int(made.metadata.shared)}


def assembled(ptx: str) -> Row:
    """ptxas -v over Triton's PTX: what its own metadata has only where there is a driver."""
    from triton import knobs

    target = re.search(r"^\.target (sm_\w+)", ptx, re.MULTILINE)
    assert target is not None
    blackwell = target.group(1).startswith("sm_10")
    ptxas = knobs.nvidia.ptxas_blackwell if blackwell else knobs.nvidia.ptxas
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.ptx"
        path.write_text(ptx)
        command = [ptxas.path, "-v", f"-arch={target.group(1)}", str(path), "-o", f"{folder}/kernel.cubin"]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return next(iter(ptxas_figures(text).values()))


# -- the table -----------------------------------------------------------------------------------------------


def spills(row: Row) -> int:
    return row["spill_stores"] + row["spill_loads"]


def worse(found: dict[str, Row], known: dict[str, Row]) -> list[str]:
    """Kernels that spill more than the table says, and new ones that spill."""
    messages = []
    for name, row in found.items():
        before = spills(known[name]) if name in known else 0
        if spills(row) > before:
            messages.append(f"{name}: spills {spills(row)} bytes, {before} before")
        if name not in known:
            messages.append(f"{name}: not in {TABLE.name}: python benchmarks/kernels.py writes it")
    return messages


def collect(rooms: list[str], architectures: Sequence[int]) -> dict[str, dict[str, Row]]:
    """The figures of both compilers, as far as they are here."""
    os.environ.pop("TRITON_INTERPRET", None)
    found = {}
    if shutil.which("nvcc") is not None:
        found["cuda"] = cuda_rows(rooms, architectures)
    if importlib.util.find_spec("triton") is not None:
        found["triton"] = triton_rows(rooms, architectures)
    return found


def write(found: dict[str, dict[str, Row]], rooms: list[str]) -> None:
    known = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    for compiler, rows in found.items():
        # Whole rooms are replaced, so that a kernel which is gone is gone from the table.
        kept = {n: row for n, row in known.get(compiler, {}).items() if n.split("/")[0] not in rooms}
        known[compiler] = dict(sorted({**kept, **rows}.items()))
    lines = [
        f' "{compiler}": {{\n'
        + ",\n".join(f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items())
        + "\n }"
        for compiler, rows in sorted(known.items())
    ]
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rooms", nargs="*")
    parser.add_argument("--check", action="store_true", help="compare with the table, write nothing")
    parser.add_argument("--architectures", type=int, nargs="+", default=ARCHITECTURES, help="80 90 100")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    rooms = options.rooms or sorted(path.parent.name for path in ROOT.glob("sslkernels/*/__init__.py"))
    found = collect(rooms, options.architectures)
    for compiler, rows in found.items():
        spilling = sum(spills(row) > 0 for row in rows.values())
        print(f"{compiler}: {len(rows)} kernels compiled, {spilling} spill")
    if not options.check:
        write(found, rooms)
        return 0
    known = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    messages = [text for compiler, rows in found.items() for text in worse(rows, known.get(compiler, {}))]
    print("\n".join(messages), end="\n" if messages else "")
    return int(bool(messages))


if __name__ == "__main__":
    sys.exit(main())
