"""Times every operator on a GPU: `python -m benchmarks.gpu [ROOM ...]`; benchmarks/gpu.sh calls it.

For each line of a family's problems.TIMED (else its largest line), forward and, where there is one,
backward: the median of CUDA events over inputs that change from call to call, so that no cache keeps them;
the same for the reference in eager torch and under torch.compile, and for the peers that
benchmarks/<room>*.py name in gpu_peers(operator, arguments); the peak of memory beside inputs; and the
least time that reading each input and writing each result once takes at the speed of a copy on this device.
--device cpu is a dry run by the clock, which writes nothing.
"""

import argparse
import importlib
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import results
from sslkernels import _op, _problem

warnings.filterwarnings("ignore", "Warning only once for all operators")
CACHE_BYTES = 256 << 20  # more than the second-level cache of any GPU
COPIES, WARM_UP, CALLS = 16, 3, 30
LONGEST = 5.0  # seconds that the calls of one rival may take
Call = Callable[[tuple[Any, ...]], Any]


def timed_lines(op: _op.Op) -> Iterator[str]:
    problems = _problem.problems_of(op)
    own = [line for line in getattr(problems, "TIMED", ()) if line.split()[0] == op.name]
    if own:
        yield from own
    else:
        lines = list(_problem.lines_of(op))
        if lines:
            yield max(lines, key=lambda line: bytes_of(_problem.inputs(line)[1]))


def bytes_of(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    return sum(map(bytes_of, value)) if isinstance(value, tuple | list) else 0


def to(args: tuple[Any, ...], device: str) -> tuple[Any, ...]:
    return tuple(value.to(device, copy=True) if isinstance(value, Tensor) else value for value in args)


def seconds(call: Call, rotated: list[tuple[Any, ...]], device: str) -> float:
    """Median seconds of a call, each with the next of the rotated inputs; fewer calls where they are slow."""
    began = time.perf_counter()

    def timed(args: tuple[Any, ...]) -> float:
        if device == "cpu":
            start = time.perf_counter()
            call(args)
            return time.perf_counter() - start
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call(args)
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3

    times = []
    for at in range(WARM_UP + CALLS):
        times.append(timed(rotated[at % len(rotated)]))
        if time.perf_counter() - began > LONGEST:
            break
    return statistics.median(times[min(WARM_UP, len(times) - 1) :])


def copy_speed(device: str) -> float:
    """Bytes a second that a copy reads and writes together."""
    source = torch.ones(CACHE_BYTES // 4, device=device)
    target = torch.empty_like(source)
    return 2 * bytes_of(source) / seconds(lambda args: args[0].copy_(args[1]), [(target, source)], device)


def peak_memory(call: Call, args: tuple[Any, ...], device: str) -> int | None:
    if device == "cpu":
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call(args)
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def on(op: _op.Op, backend: str, backward: bool) -> Call:
    """A call of the operator on a backend; with its backward where it is asked for."""

    def call(args: tuple[Any, ...]) -> Any:
        found = _op._as_tuple(op(*args))
        if backward:
            wanted = [value for value in found if isinstance(value, Tensor) and value.requires_grad]
            leaves = [value for value in args if isinstance(value, Tensor) and value.requires_grad]
            return torch.autograd.grad(wanted, leaves, [torch.ones_like(value) for value in wanted])
        return found

    def scoped(args: tuple[Any, ...]) -> Any:
        with _op.use(backend):
            return call(args)

    return call if backend == "auto" else scoped


def compiled_reference(op: _op.Op) -> Call:
    compiled = torch.compile(op.reference, dynamic=False)
    return lambda args: compiled(*args)


def peers_of(op: _op.Op, args: tuple[Any, ...]) -> dict[str, Callable[[], Any]]:
    """What the files of the operator's room name as its peers on these arguments."""
    found: dict[str, Callable[[], Any]] = {}
    for path in sorted(Path(__file__).parent.glob(f"{op.package.split('.')[1]}*.py")):
        try:
            module = importlib.import_module(f"benchmarks.{path.stem}")
        except ImportError as error:  # a peer that is not installed here
            print(f"benchmarks/{path.name}: {error}", file=sys.stderr)
            continue
        found |= getattr(module, "gpu_peers", lambda *_: {})(op.name, args)
    return found


def rivals(op: _op.Op, rotated: list[tuple[Any, ...]], backward: bool) -> dict[str, Call]:
    """The reference and, forward, its compiled form and the peers: each on any of the rotated inputs."""
    found: dict[str, Call] = {"reference (eager)": on(op, "reference", backward)}
    if backward:
        return found
    if rotated[0][0].is_cuda:
        found["reference (torch.compile)"] = compiled_reference(op)
    made = {id(args): peers_of(op, args) for args in rotated}
    for name in made[id(rotated[0])]:
        found[name] = lambda args, name=name: made[id(args)][name]()
    return found


def measure(op: _op.Op, line: str, device: str, speed: float, backward: bool) -> None:
    args = _problem.inputs(line)[1]
    copies = max(1, min(COPIES, CACHE_BYTES // max(bytes_of(args), 1)))
    rotated = [to(args, device) for _ in range(copies)]
    if backward:
        for one in rotated:
            for name, value in zip(op.arguments, one, strict=True):
                if name in op.gradients and isinstance(value, Tensor):
                    value.requires_grad_()
    ours = on(op, "auto", backward)
    moved = bytes_of(args) + bytes_of(_op._as_tuple(op(*rotated[0]))) * (2 if backward else 1)
    mine = seconds(ours, rotated, device)
    common = {
        "problem": line + (" forward+backward" if backward else ""),
        "ours_seconds": mine,
        "least_seconds": moved / speed,
        "peak_bytes": peak_memory(ours, rotated[0], device),
    }
    for peer, call in rivals(op, rotated, backward).items():
        try:
            theirs = seconds(call, rotated, device)
            used = peak_memory(call, rotated[0], device)
        except Exception as error:  # a peer that cannot do it is named, and the others go on
            print(f"{line}: {peer}: {type(error).__name__}: {str(error).splitlines()[0]}", file=sys.stderr)
            continue
        results.add_row(
            **common, peer=peer, peer_seconds=theirs, peer_bytes=used, ratio=theirs / mine, floor=None
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rooms", nargs="*")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--list", action="store_true", help="print the lines and stop")
    options = parser.parse_args()
    _op.declare_all()
    ops = [op for op in _op.OPS.values() if not options.rooms or op.package.split(".")[1] in options.rooms]
    ops = [op for op in ops if not op.name.endswith("_backward")]
    if options.list:
        print("\n".join(line for op in ops for line in timed_lines(op)))
        return 0
    if options.device == "cuda" and not torch.cuda.is_available():
        print("benchmarks.gpu: no GPU here; --device cpu is a dry run", file=sys.stderr)
        return 2
    speed = copy_speed(options.device)
    for op in ops:
        if options.device == "cuda" and op.backend_on("CUDA") == "reference":
            print(f"{op.name}: no CUDA kernel, not timed", file=sys.stderr)
            continue
        for line in timed_lines(op):
            measure(op, line, options.device, speed, backward=False)
            if op.backward is not None:
                measure(op, line, options.device, speed, backward=True)
    print(results.table())
    if options.device == "cuda":
        results.write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
