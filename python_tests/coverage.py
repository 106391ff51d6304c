"""Which lines of the CPU kernels no test runs, by gcov.

python python_tests/coverage.py [--least 98] [--workers auto] [--only-report] [TESTS ...]

Builds every cpu.cpp without optimisation, runs the contract and the rooms' tests on it (or the tests that are
named) and compares the variants for each instruction set, then lists with their text the lines of cpu.cpp and
of what it includes from csrc that were never run.
Exit status 1 where a test fails, or where fewer than --least percent of all lines were run. --only-report
shows the lines of the last run again.
"""

import argparse
import gzip
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import native_builds

ROOT = native_builds.ROOT
CSRC = ROOT / "csrc"
PROGRAM = CSRC / "instruction_sets" / "compare.cpp"  # what it includes counts, it does not
TESTS = tuple(f"python_tests/test_{name}.py" for name in ("contract", "kernel_refusals", "random"))
Lines = dict[str, dict[int, int]]


def counts(folder: Path) -> Lines:
    """file below csrc -> line -> how often it ran, over all files that include it and all instances."""
    found: Lines = defaultdict(lambda: defaultdict(int))
    for notes in sorted(folder.glob("*.gcno")):
        command = ["gcov", "--json-format", "--stdout", str(notes)]
        text = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
        raw = gzip.decompress(text) if text[:2] == b"\x1f\x8b" else text
        for document in raw.decode().splitlines():
            for file in json.loads(document)["files"]:
                path = (ROOT / file["file"]).resolve()
                if path.is_relative_to(CSRC) and path != PROGRAM:
                    for line in file["lines"]:
                        number = line["line_number"]
                        found[str(path.relative_to(CSRC))][number] += line["count"]
    return found


def report(found: Lines, least: float) -> bool:
    """Print a line a file, each line that never ran, and the share of all; whether it is enough."""
    missed = {
        file: [at for at, count in sorted(lines.items()) if count == 0] for file, lines in found.items()
    }
    for file, lines in sorted(found.items()):
        print(f"{file:44}{len(lines):6} lines{100 * (1 - len(missed[file]) / len(lines)):8.1f} %")
    for file in sorted(found):
        text = (CSRC / file).read_text().splitlines()
        for at in missed[file]:
            print(f"never run: {file}:{at}: {text[at - 1].strip()}")
    total, never = sum(map(len, found.values())), sum(map(len, missed.values()))
    share = 100 * (1 - never / total) if total else 0.0
    print(f"{total} lines of C++ for the CPU, {never} never run: {share:.2f} % (at least {least:g} %)")
    return share >= least


def run_tests(build: native_builds.Build, tests: list[str], workers: str) -> int:
    for old in build.folder.glob("*.gcda"):
        old.unlink()
    compared = subprocess.run(
        [native_builds.program(str(PROGRAM), build.folder / "compare", build.flags(PROGRAM))]
    )
    tested = build.run_tests(tests or [*TESTS, *native_builds.room_tests()], workers)
    return compared.returncode or tested


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--least", type=float, default=98.0)
    parser.add_argument("--workers", default="auto")
    parser.add_argument("--only-report", action="store_true")
    parser.add_argument("tests", nargs="*")
    options = parser.parse_args()
    build = native_builds.Build("cpu", coverage=True)
    failed = 0
    if not options.only_report:
        print(f"building {build.folder.name} ...", flush=True)
        build.make()
        failed = run_tests(build, options.tests, options.workers)
    enough = report(counts(build.folder), options.least)
    return int(failed != 0 or not enough)


if __name__ == "__main__":
    sys.exit(main())
