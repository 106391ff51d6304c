"""The contract's problem lines under a sanitizer.

python python_tests/sanitized.py cpu address,undefined
python python_tests/sanitized.py emulated address,undefined thread

Builds the CPU library, or the CUDA kernels on the emulated GPU, for each sanitizer; then runs every line of
every operator that it serves (small ones where it is emulated) in a process of its own, and for the CPU the
rooms' own tests, which the first report ends. Exit status 1 where a result is off, a test fails or a
sanitizer reports anything. What shows when a check is taken out of a CUDA kernel: mutations.py.
"""

import argparse
import os
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import native_builds

ROOT = native_builds.ROOT
BACKENDS = {"emulated": "cuda-emulated", "cpu": "cpu"}


def summary(report: str) -> str:
    """A sanitizer's report in one line; nothing where there is none."""
    patterns = (r"SUMMARY: (.*)", r"(\S+: runtime error: .*)", r"((?:ERROR|WARNING): \w+Sanitizer.*)")
    found = next(filter(None, (re.search(pattern, report) for pattern in patterns)), None)
    text = found.group(1) if found else ""
    return re.sub(rf"{re.escape(str(ROOT))}/|\(\S+\.so\+0x\w+\) ", "", text)


class Reports:
    """What the sanitizers write of this process, to its stderr: each runtime has a log of its own, but one
    of several in a process does not heed log_path.
    """

    def __init__(self, folder: Path) -> None:
        self.path, self.read = path_of(folder, os.getpid()), 0
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        os.dup2(file, sys.stderr.fileno())
        os.close(file)

    def new(self) -> str:
        """What has been written since this was last asked."""
        text = self.path.read_text(errors="replace")[self.read :]
        self.read += len(text)
        return text


def tell(build: native_builds.Build, process: subprocess.Popen) -> None:
    """Print how a process ended."""
    path = path_of(build.folder, process.pid)
    report = path.read_text(errors="replace") if path.exists() else ""
    print(f"{build.folder.name} ended with exit status {process.returncode}: {report[-3000:]}", flush=True)


def path_of(folder: Path, process: int) -> Path:
    return folder / f"report.{process}"


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
                verdict = f"wrong result of {line}: {off[0]}" if off else ""
            else:
                with self.use(self.backend):
                    op(*args)
                verdict = ""
        except (RuntimeError, ValueError) as error:
            verdict = f"error: {error}"
        return verdict or summary(self.reports.new())

    def check(self) -> int:
        """The whole contract of the build; the number of lines that went wrong."""
        wrong = 0
        lines = list(self.lines())
        for name, own in groupby(lines, lambda one: one[0].split()[0]):
            before, count = time.monotonic(), 0
            for line, compared in own:
                count += 1
                fault = self.fault(line, compared)
                if fault:
                    wrong += 1
                    print(f"{line} [{self.backend}]: {fault}")
            print(f"{name:36}{count:4} lines{time.monotonic() - before:8.1f} s", flush=True)
        print(f"{self.build.folder.name}: {len(lines)} lines, {wrong} wrong", flush=True)
        return wrong


def wrapper(build: native_builds.Build) -> list[str]:
    """ThreadSanitizer's shadow does not stand address-space randomisation on newer kernels."""
    return ["setarch", "-R"] if build.sanitize == "thread" else []


def in_process(build: native_builds.Build) -> int:
    for old in build.folder.glob("report.*"):
        old.unlink()
    command = [*wrapper(build), sys.executable, __file__, build.kind, build.sanitize, "--inside"]
    process = subprocess.Popen(command, cwd=ROOT, env=build.environment())
    if process.wait() not in (0, 1):  # 1: it has said what is wrong
        tell(build, process)
    return process.returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=BACKENDS)
    parser.add_argument("sanitize", nargs="+", help="address,undefined or thread")
    parser.add_argument("--workers", default="auto", help="of the rooms' tests")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    builds = [native_builds.Build(options.kind, sanitize) for sanitize in options.sanitize]
    if options.inside:
        return int(Run(builds[0]).check() > 0)
    wrong = 0
    for build in builds:
        print(f"building {build.folder.name} ...", flush=True)
        build.make()
        wrong += in_process(build) != 0
        if build.kind == "cpu":
            wrong += build.run_tests(native_builds.room_tests(), options.workers, halt=True) != 0
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
