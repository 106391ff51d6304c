"""The contract's problem lines under a sanitizer, and what shows when a check is taken out of a CUDA kernel.

python python_tests/sanitized.py cpu address,undefined
python python_tests/sanitized.py emulated address,undefined thread [--mutate]

Builds the CPU library, or the CUDA kernels on the emulated GPU, for each sanitizer; then runs every line of
every operator that it serves (small ones where it is emulated) in a process of its own. Exit status 1 where
a result is off or a sanitizer reports anything. With --mutate each barrier and each IN_BOUNDS or CLAMPED of
every CUDA kernel is then taken away, one at a time: "file:line caught by ..." says who missed it; exit
status 1 where nobody did.
"""

import argparse
import ctypes
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import native_builds

ROOT = native_builds.ROOT
REMOVABLE = re.compile(r"\b(__syncthreads|__syncwarp|IN_BOUNDS|CLAMPED)\(")
BACKENDS = {"emulated": "cuda-emulated", "cpu": "cpu"}
UNSEEN = "nothing"


def sites() -> list[tuple[str, int]]:
    """(file below csrc, line) of each barrier and bound check of the CUDA kernels."""
    found = []
    for path in sorted(path for path in ROOT.glob("csrc/*/*/*") if path.suffix in (".cu", ".cuh")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if REMOVABLE.search(line.split("//")[0]):
                found.append((str(path.relative_to(ROOT / "csrc")), number))
    return found


class Reports:
    """What the sanitizer has written since it was last asked."""

    def __init__(self, folder: Path) -> None:
        self.path, self.read = folder / f"report.{os.getpid()}", 0

    def new(self) -> str:
        if not self.path.exists():
            return ""
        text = self.path.read_text(errors="replace")[self.read :]
        self.read += len(text)
        return text


class Run:
    """The lines of one build, in a process that runs under its sanitizer."""

    def __init__(self, build: native_builds.Build) -> None:
        import torch

        from sslkernels import _op, _problem

        warnings.filterwarnings("ignore", "Warning only once for all operators")
        torch.set_num_threads(1 if build.kind == "emulated" else 2)
        _op.declare_all()
        self.build, self.problem, self.use = build, _problem, _op.use
        self.backend, self.reports = BACKENDS[build.kind], Reports(build.folder)
        self.ops = [op for op in _op.OPS.values() if op.kernel(self.backend, "CPU") is not None]
        if not self.ops:
            raise SystemExit(f"no operator has a {self.backend} kernel")

    def lines(self, family: str = "") -> Iterator[tuple[str, bool]]:
        """(problem line, whether its results are compared), of one family or of all."""
        import contract

        for op in self.ops:
            if family and not op.package.endswith("." + family.replace("/", ".")):
                continue
            for line in contract.lines(op):
                if contract.serves(op, self.backend, line, self.problem.inputs(line)[1]):
                    yield line, True
            if self.backend == "cuda-emulated" and "address" in self.build.sanitize:
                for line in getattr(self.problem.problems_of(op), "UNCHECKED", ()):
                    if line.split()[0] == op.name:
                        yield line, False

    def fault(self, line: str, compared: bool) -> str:
        """What shows that the line went wrong: its result, an error, the sanitizer's summary, or nothing."""
        op, args = self.problem.inputs(line)
        os.environ["SSLKERNELS_CHECK"] = "1" if compared else "0"
        try:
            if compared:
                off = [found for found in self.problem.compare(op, args, self.backend) if not found.ok]
                verdict = f"a result: {off[0]}" if off else ""
            else:
                with self.use(self.backend):
                    op(*args)
                verdict = ""
        except (RuntimeError, ValueError) as error:
            verdict = f"an error: {error}"
        report = self.reports.new()
        summary = re.search(r"SUMMARY: (.*)|runtime error: (.*)", report)
        return verdict or (summary.group(0) if summary else report[:200])

    def check(self) -> int:
        """The whole contract of the build; the number of lines that went wrong."""
        wrong = 0
        lines = list(self.lines())
        for line, compared in lines:
            fault = self.fault(line, compared)
            if fault:
                wrong += 1
                print(f"{line} [{self.backend}]: {fault}")
        print(f"{self.build.folder.name}: {len(lines)} lines, {wrong} wrong")
        return wrong

    def mutate(self, numbers: list[int]) -> None:
        """Take these sites away, one at a time; print what misses each."""
        remove = ctypes.CDLL(str(self.build.library)).sslkernels_emulation_remove
        remove.argtypes = (ctypes.c_char_p, ctypes.c_int)
        for number in numbers:
            file, line = sites()[number]
            print(number, end=" ", flush=True)
            remove(file.encode(), line)
            faults = (self.fault(*problem) for problem in self.lines(str(Path(file).parent)))
            fault = next(filter(None, faults), UNSEEN)
            remove(b"", 0)
            print(fault.splitlines()[0][:120], flush=True)


def in_process(build: native_builds.Build, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, __file__, build.kind, build.sanitize, "--inside", *words]
    if build.sanitize == "thread":
        command = ["setarch", "-R", *command]
    for old in build.folder.glob("report.*"):
        old.unlink()
    return subprocess.run(command, cwd=ROOT, env=build.environment(), stdout=subprocess.PIPE, text=True)


def mutations(build: native_builds.Build, numbers: list[int]) -> dict[int, str]:
    """What misses each site; a crash does, too, and a new process goes on after it."""
    found: dict[int, str] = {}
    while remaining := [number for number in numbers if number not in found]:
        done = in_process(build, "--mutate", "--sites", *map(str, remaining))
        before = len(found)
        for line in done.stdout.splitlines():
            number, _, fault = line.partition(" ")
            if number.isdigit():
                found[int(number)] = fault.strip() or f"exit status {done.returncode}"
        if len(found) == before:
            raise RuntimeError(f"no site was run: {done.stdout}")
    return found


def mutate_everywhere(builds: list[native_builds.Build]) -> int:
    """Print what misses each site; the number of those that nothing does."""
    missed = list(range(len(sites())))
    for build in builds:
        for number, fault in mutations(build, missed).items():
            if fault != UNSEEN:
                missed.remove(number)
                print("{}:{}".format(*sites()[number]), f"caught by {build.sanitize}: {fault}")
    for number in missed:
        print("{}:{} is missed by nothing: is it needed, is there a line for it?".format(*sites()[number]))
    return len(missed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=BACKENDS)
    parser.add_argument("sanitize", nargs="+", help="address,undefined or thread")
    parser.add_argument("--mutate", action="store_true")
    parser.add_argument("--sites", type=int, nargs="+", default=(), help=argparse.SUPPRESS)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    builds = [native_builds.Build(options.kind, sanitize) for sanitize in options.sanitize]
    if options.inside:
        run = Run(builds[0])
        if options.mutate:
            run.mutate(list(options.sites))
            return 0
        return int(run.check() > 0)
    wrong = 0
    for build in builds:
        build.make()
        done = in_process(build)
        print(done.stdout, end="", flush=True)
        wrong += done.returncode != 0
    if options.mutate and not wrong:
        wrong += mutate_everywhere(builds)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
