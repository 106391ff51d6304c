"""Which lines of the CPU kernels no test runs, by gcov.

python python_tests/coverage.py [--least 98] [PYTEST WORDS ...]

Builds every cpu.cpp without optimisation, runs the contract and the rooms' tests on it (or the tests that are
named), and lists the lines of cpu.cpp and the room's headers that were never run. Exit status 1 where a file
has fewer than --least percent of its lines run.
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
                if path.is_relative_to(ROOT / "csrc"):
                    for line in file["lines"]:
                        number = line["line_number"]
                        found[str(path.relative_to(ROOT / "csrc"))][number] += line["count"]
    return found


def ranges(numbers: list[int]) -> str:
    """[3, 4, 5, 9] -> "3-5, 9"."""
    groups: list[list[int]] = []
    for number in numbers:
        if groups and number == groups[-1][-1] + 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    return ", ".join(f"{g[0]}-{g[-1]}" if len(g) > 1 else str(g[0]) for g in groups)


def report(found: Lines, least: float) -> bool:
    """Print a line a file; whether every one has its share."""
    enough = True
    for file, lines in sorted(found.items()):
        missed = sorted(number for number, count in lines.items() if count == 0)
        share = 100 * (1 - len(missed) / len(lines))
        enough &= share >= least
        print(f"{file:44}{share:7.1f} %{'  never run: ' + ranges(missed) if missed else ''}")
    return enough


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--least", type=float, default=98.0)
    parser.add_argument("tests", nargs="*")
    options = parser.parse_args()
    build = native_builds.Build("cpu", coverage=True)
    build.make()
    for old in build.folder.glob("*.gcda"):
        old.unlink()
    rooms = [str(path.parent) for path in sorted(ROOT.glob("python_tests/*/test_*.py"))]
    tests = options.tests or ["python_tests/test_contract.py", *sorted(set(rooms))]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["-n", "auto", "-k", "not triton", *tests]
    done = subprocess.run(command, cwd=ROOT, env=build.environment())
    if done.returncode != 0:
        return done.returncode
    return 0 if report(counts(build.folder), options.least) else 1


if __name__ == "__main__":
    sys.exit(main())
