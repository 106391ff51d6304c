"""`python -m sslkernels`: which kernel serves each operator on each device here, and what is missing.

python -m sslkernels check "LINE" [--backend B]    compares a problem line with the reference
python -m sslkernels time "LINE" [--backend B]     times it
"""

import argparse
import importlib.metadata
import importlib.util
import sys
import time

_OPTIONAL = {
    "triton": "pip install sslkernels[triton]",
    "rdkit": "pip install sslkernels[chem]",
    "omegaconf": "pip install sslkernels[pretrain]",
}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def print_table() -> None:
    """Versions, the backend of every operator on every device here, and what is missing."""
    import torch

    from sslkernels import __version__, _native, _op

    print(f"sslkernels {__version__}, torch {torch.__version__}, Python {sys.version.split()[0]}\n")
    table = _op.backends()
    devices = sorted({device for row in table.values() for device in row})
    print(f"{'operator':44}" + "".join(f"{device:11}" for device in devices) + "exceptions")
    for name, row in table.items():
        exceptions = "; ".join(f"{backend}: {text}" for backend, text in _op.OPS[name].exceptions.items())
        print(f"{name:44}" + "".join(f"{row[device]:11}" for device in devices) + exceptions)
    missing = [] if _native.has_cpu else [f"native CPU library: {_native.BUILD_HINT}"]
    if torch.cuda.is_available() and not _native.has_cuda:
        missing.append(f"native CUDA library (built where nvcc is): {_native.BUILD_HINT}")
    if importlib.util.find_spec("sslkernels._numpy") is None:
        missing.append(f"NumPy face: {_native.BUILD_HINT}")
    missing += [f"{name}: {hint}" for name, hint in _OPTIONAL.items() if _version(name) is None]
    print("\n" + "\n".join(f"missing  {line}" for line in missing) if missing else "\nnothing is missing")


def check(line: str, backend: str) -> int:
    """Print every result and gradient beside the reference; 1 where one is off."""
    from sslkernels import _problem

    op, args = _problem.inputs(line)
    differences = _problem.compare(op, args, backend)
    for difference in differences:
        verdict = "ok" if difference.ok else "OFF"
        print(
            f"{verdict:4}{difference.name:24}error {difference.error:.3g}, allowed {difference.allowed:.3g}"
        )
    return 0 if all(difference.ok for difference in differences) else 1


def measure(line: str, backend: str, seconds: float = 1.0) -> int:
    """Print the median time of a call, forward alone."""
    import torch

    from sslkernels import _op, _problem

    op, args = _problem.inputs(line)
    synchronize = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    times: list[float] = []
    with _op.use(backend), torch.no_grad():
        op(*args)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(times) < 3:
            start = time.perf_counter()
            op(*args)
            synchronize()
            times.append(time.perf_counter() - start)
    median = sorted(times)[len(times) // 2]
    print(f"{median * 1e6:.1f} us a call (median of {len(times)}, {torch.get_num_threads()} threads)")
    return 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m sslkernels", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command")
    for name, text in (("check", "compare a problem line with the reference"), ("time", "time it")):
        command = commands.add_parser(name, help=text)
        command.add_argument("line", help="an operator and its keywords, as a failing test prints it")
        command.add_argument("--backend", default="auto", help="auto, reference, cpu, cuda or triton")
    options = parser.parse_args(arguments)
    if options.command is None:
        print_table()
        return 0
    try:
        run = check if options.command == "check" else measure
        return run(options.line, options.backend)
    except (ValueError, RuntimeError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
