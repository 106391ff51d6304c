"""Takes each barrier and each bound check out of the CUDA kernels, one at a time, and sees what misses it.

python python_tests/mutations.py [--seconds 40] [--only WORD ...] [--with address,undefined|thread]

The kernels run as C++ on the emulated GPU (csrc/emulation). First all problem lines run on the whole kernels,
under each sanitizer, as in sanitized.py; then a process without one of the checks runs the lines of its
family, the quick ones first, until something is amiss: a sanitizer's report, an error of the emulated GPU, a
wrong result, a crash, or more than --seconds of CPU time where the whole kernels end. Bound checks are taken
away under AddressSanitizer and UBSan, barriers under ThreadSanitizer; then what is left, under the other. A
line for each check says what missed it. Exit status 1 where a whole kernel goes wrong, where nothing misses a
check, or where a kernel has none; --only takes the checks of places that hold one of the words.
"""

import argparse
import ctypes
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import native_builds
import sanitized

ROOT = native_builds.ROOT
CSRC = ROOT / "csrc"
SANITIZERS = ("address,undefined", "thread")
REMOVABLE = re.compile(r"\b(__syncthreads(?:_or|_and|_count)?|__syncwarp|IN_BOUNDS|CLAMPED)\(")
IS_DEFINED = re.compile(r"#define\s")
LIMITS = "hard_rss_limit_mb=8192:max_allocation_size_mb=4096"
DIES_WITH_PARENT = 1  # of prctl
SLOWEST = 20  # times that a process may take longer than it computes, on a busy machine


# -- what there is to take away ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Site:
    """A check's place: file below csrc, and line."""

    file: str
    line: int
    check: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"

    @property
    def family(self) -> str:
        return str(Path(self.file).parent)

    @property
    def is_barrier(self) -> bool:
        return "sync" in self.check


@dataclass(frozen=True)
class Function:
    """Lines [first, last] of a file, and what is written there."""

    name: str
    file: str
    first: int
    last: int
    text: str

    @property
    def is_kernel(self) -> bool:
        return "__global__" in self.text


def sources() -> list[Path]:
    """Every cuda.cu, and the headers of its folder: a kernel calls what stands there."""
    folders = sorted({path.parent for path in CSRC.glob("*/*/*.cu")})
    return [path for folder in folders for path in sorted(folder.iterdir()) if path.suffix != ".cpp"]


def code(path: Path) -> list[str]:
    return [line.split("//")[0] for line in path.read_text().splitlines()]


def sites() -> list[Site]:
    found = []
    for path in sources():
        file = str(path.relative_to(CSRC))
        for number, line in enumerate(code(path), 1):
            checks = [] if IS_DEFINED.match(line) else REMOVABLE.findall(line)
            if len(checks) > 1:
                raise SystemExit(f"{file}:{number} has {len(checks)} checks: one a line can be taken away")
            found += [Site(file, number, check) for check in checks]
    return found


def functions(path: Path) -> Iterator[Function]:
    """Definitions as clang-format lays them out: from an unindented line to the next unindented brace."""
    lines, start = code(path), None
    for at, line in enumerate(lines):
        if re.match(r"namespace|extern|struct|class|enum|union|using|template|#|constexpr", line):
            start = None
        elif start is None and line[:1].strip() and not line.startswith("}"):
            start = at
        elif start is not None and line.startswith("}"):
            text = "\n".join(lines[start : at + 1])
            names = [name for name in re.findall(r"(\w+)\s*\(", text) if not name.startswith("__")]
            yield Function(names[0], str(path.relative_to(CSRC)), start + 1, at + 1, text)
            start = None


def kernels() -> dict[str, list[Site]]:
    """Every CUDA kernel, and the checks in it and in what it calls."""
    defined: dict[str, list[Function]] = {}
    for path in sources():
        for function in functions(path):
            defined.setdefault(function.name, []).append(function)
    found = {}
    for kernel in [one for same in defined.values() for one in same if one.is_kernel]:
        reached, todo = {kernel}, [kernel]
        while todo:
            called = {name for name in re.findall(r"\b(\w+)\s*[(<]", todo.pop().text) if name in defined}
            near = [
                f for name in called for f in defined[name] if Path(f.file).parent == Path(kernel.file).parent
            ]
            todo += [function for function in near if function not in reached]
            reached.update(near)
        found[f"{kernel.file}: {kernel.name}"] = [
            site
            for site in sites()
            if any(f.file == site.file and f.first <= site.line <= f.last for f in reached)
        ]
    return found


def uncalled() -> list[Site]:
    """Checks that no kernel comes to."""
    reached = {site for known in kernels().values() for site in known}
    return [site for site in sites() if site not in reached]


# -- under a sanitizer, in a process of its own -------------------------------------------------------------


def die_with_parent() -> None:
    ctypes.CDLL(None).prctl(DIES_WITH_PARENT, signal.SIGKILL)


def in_child(body: Callable[[], str], seconds: float) -> tuple[str, int, int]:
    """What `body` returns, in a fork that may compute for so long; also its process id and wait status."""
    end, start = os.pipe()
    pid = os.fork()
    if pid == 0:
        die_with_parent()
        os.close(end)
        signal.setitimer(signal.ITIMER_PROF, seconds)  # ends the process where it does not end by itself
        with os.fdopen(start, "w") as answer:
            answer.write(body())
        os._exit(0)
    os.close(start)
    text, deadline = b"", time.monotonic() + SLOWEST * seconds
    while True:
        if not select.select([end], [], [], max(0.0, deadline - time.monotonic()))[0]:
            os.kill(pid, signal.SIGKILL)
            break
        more = os.read(end, 1 << 16)
        if not more:
            break
        text += more
    os.close(end)
    return text.decode(), pid, os.waitpid(pid, 0)[1]


class Worker:
    """One sanitizer's build; each check is taken away in a fork, where nothing has been launched yet.

    A fork of a process that has launched is of no use: to ThreadSanitizer fibers are threads, and in a fork
    of many threads it sees nothing.
    """

    def __init__(self, build: native_builds.Build, seconds: float) -> None:
        self.build, self.seconds, self.run = build, seconds, sanitized.Run(build)
        self.cost: dict[str, float] = {}

    def check(self) -> str:
        """The whole kernels on all lines: what is wrong, or nothing."""
        text, pid, status = in_child(self._all_lines, 10 * self.seconds)
        answer = json.loads(text or "{}")
        self.cost = answer.get("seconds", {})
        wrong = answer.get("wrong", []) or list(filter(None, [self._ending(pid, status)]))
        return "; ".join(wrong)

    def _all_lines(self) -> str:
        self.run.reports = sanitized.Reports(self.build.folder)
        seconds, wrong = {}, []
        for line, compared in self.run.lines():
            before = time.process_time()
            fault = self.run.fault(line, compared)
            seconds[line] = time.process_time() - before
            if fault:
                wrong.append(f"{line}: {fault}")
        return json.dumps({"seconds": seconds, "wrong": wrong})

    def without(self, site: Site) -> str:
        """What misses this check, or nothing."""
        text, pid, status = in_child(lambda: self._lines_without(site), self.seconds)
        return (text or self._ending(pid, status)).splitlines()[0][:150] if text or status else ""

    def _lines_without(self, site: Site) -> str:
        self.run.reports = sanitized.Reports(self.build.folder)
        remove = ctypes.CDLL(str(self.build.library)).sslkernels_emulation_remove
        remove(site.file.encode(), site.line)
        lines = sorted(self.run.lines(site.family), key=lambda one: self.cost.get(one[0], 0.0))
        faults = (self.run.fault(line, compared) for line, compared in lines)
        return next(filter(None, faults), "")

    def _ending(self, pid: int, status: int) -> str:
        """Of a process that said nothing: the sanitizer's summary, or how it ended."""
        report = sanitized.path_of(self.build.folder, pid)
        found = sanitized.summary(report.read_text(errors="replace") if report.exists() else "")
        if found:
            return found
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            ended = {
                signal.SIGPROF: f"hang: {self.seconds:.0f} s of CPU time",
                signal.SIGKILL: "hang: killed",
            }
            return ended.get(signal.Signals(number), f"crash: {signal.Signals(number).name}")
        return f"exit status {os.WEXITSTATUS(status)}" if status else ""


def work(build: native_builds.Build, numbers: list[int], seconds: float) -> int:
    """One JSON line for the whole kernels, then one a site."""
    die_with_parent()
    worker, all_sites = Worker(build, seconds), sites()
    before = time.monotonic()
    wrong = worker.check()
    lines = len(worker.cost)
    print(json.dumps({"wrong": wrong, "lines": lines, "seconds": time.monotonic() - before}), flush=True)
    for number in [] if wrong else numbers:
        before = time.monotonic()
        fault = worker.without(all_sites[number])
        print(json.dumps({"site": number, "fault": fault, "seconds": time.monotonic() - before}), flush=True)
    return 0


# -- all of it ----------------------------------------------------------------------------------------------


def answers(build: native_builds.Build, numbers: list[int], seconds: float) -> Iterator[dict]:
    """What a worker says; nothing of it is left when the caller is done with it."""
    for old in build.folder.glob("report.*"):
        old.unlink()
    options = ["--seconds", str(seconds), "--inside", build.sanitize, *map(str, numbers)]
    command = [*sanitized.wrapper(build), sys.executable, __file__, *options]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=build.environment(halt=True, limits=LIMITS),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)
        if process.wait() != 0:
            sanitized.tell(build, process)
            raise SystemExit(1)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def run_stage(build: native_builds.Build, left: list[int], seconds: float) -> list[int]:
    """Print a line a site; those that nothing missed."""
    missed, names = [], sites()
    for done, answer in enumerate(answers(build, left, seconds)):
        took = f"{answer['seconds']:.1f} s"
        if "site" not in answer:
            print(f"whole kernels under {build.sanitize}: {answer['lines']} lines, {took}", flush=True)
            if answer["wrong"]:
                raise SystemExit(f"WRONG: {answer['wrong']}")
            continue
        site = names[answer["site"]]
        if not answer["fault"]:
            missed.append(answer["site"])
        verdict = answer["fault"] or f"nothing yet ({build.sanitize})"
        print(f"[{done}/{len(left)}] {site} {site.check} ({took}): {verdict}", flush=True)
    return missed


def run_stages(sanitizers: list[str], chosen: list[int], seconds: float) -> list[int]:
    """Bound checks under AddressSanitizer, barriers under ThreadSanitizer, what is left under the other."""
    names = sites()
    builds = {name: native_builds.Build("emulated", name) for name in sanitizers}
    with ThreadPoolExecutor(1) as pool:  # the second is built while the first runs
        made = {name: pool.submit(build.make) for name, build in builds.items()}

        def stage(name: str, left: list[int]) -> list[int]:
            if name not in builds:
                return left
            made[name].result()
            return run_stage(builds[name], left, seconds)

        left = stage("address,undefined", [at for at in chosen if not names[at].is_barrier])
        left = stage("thread", [at for at in chosen if names[at].is_barrier] + left)
        missed = [at for at in left if names[at].is_barrier]
        return (
            stage("address,undefined", missed) + [at for at in left if at not in missed] if missed else left
        )


def summary(names: list[Site], missed: list[int], bare: list[str], strays: list[Site]) -> int:
    for number in missed:
        print(f"{names[number]}: {names[number].check} is noticed by nothing: needed? has it a line?")
    for kernel in bare:
        print(f"{kernel} has no barrier and no IN_BOUNDS or CLAMPED")
    for site in strays:
        print(f"{site}: {site.check} is in no kernel")
    return len(missed) + len(bare) + len(strays)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=40.0, help="CPU time that a process may take")
    parser.add_argument("--only", nargs="+", default=("",), help="words of places")
    parser.add_argument("--with", dest="sanitize", nargs="+", choices=SANITIZERS, default=SANITIZERS)
    parser.add_argument("--inside", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        sanitize, *numbers = options.inside
        return work(native_builds.Build("emulated", sanitize), list(map(int, numbers)), options.seconds)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that workers are ended, too
    before, names, known = time.monotonic(), sites(), kernels()
    for kernel, own in known.items():
        print(f"{kernel}: {sum(site.is_barrier for site in own)} barriers, {len(own)} checks in all")
    chosen = [at for at, site in enumerate(names) if any(word in str(site) for word in options.only)]
    missed = run_stages(list(options.sanitize), chosen, options.seconds)
    wrong = summary(names, missed, [kernel for kernel, own in known.items() if not own], uncalled())
    took = time.monotonic() - before
    print(f"{len(known)} kernels, {len(chosen)} checks, {len(missed)} noticed by nothing; {took:.0f} s")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
