"""Builds of the native code beside the package's own (setup.py): what tests and checks run it under.

python python_tests/native_builds.py emulated                      every cuda.cu on the emulated GPU
python python_tests/native_builds.py emulated --sanitize thread    the same under ThreadSanitizer
python python_tests/native_builds.py cpu --sanitize address,undefined
python python_tests/native_builds.py cpu --coverage                for gcov

The library goes to build/<kind>[-<sanitizer>]/, the plain emulation to sslkernels/, where it is looked for.
Only what has changed is compiled, MAX_JOBS files (2) at a time.
"""

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
ROOMS = ("masking", "graph", "contrastive", "eulerian")
OTHERS = "not triton and not emulated and not cuda"  # backends that run no line of a cpu.cpp
TIMED = "*_cost.py"  # without optimisation and under a sanitizer they say nothing
LIBRARIES = {"emulated": "_C_emulated", "cpu": "_C_cpu"}
RUNTIMES = {"address": "libasan.so", "undefined": "libubsan.so", "thread": "libtsan.so"}
CXX = os.environ.get("CXX", "g++")


@dataclass(frozen=True)
class Build:
    """One way to build one of the two libraries."""

    kind: str
    sanitize: str = ""
    coverage: bool = False

    @property
    def folder(self) -> Path:
        ways = [self.kind, *self.sanitize.split(",")[:1], *["coverage"] * self.coverage]
        return ROOT / "build" / "-".join(way for way in ways if way)

    @property
    def library(self) -> Path:
        plain = self.kind == "emulated" and not self.sanitize and not self.coverage
        return (ROOT / "sslkernels" if plain else self.folder) / f"{LIBRARIES[self.kind]}.abi3.so"

    def sources(self) -> list[Path]:
        if self.kind == "cpu":
            return sorted(ROOT.glob("csrc/*/*/cpu.cpp"))
        return sorted([*ROOT.glob("csrc/*/*/cuda.cu"), *ROOT.glob("csrc/emulation/*.cpp")])

    def flags(self, source: Path) -> list[str]:
        """The emulated machine itself is never instrumented: it would be seen racing with its own fibers."""
        if source.parent.name == "emulation":
            return ["-O2", "-g1"]
        if self.sanitize:
            # A report does not end the process: what comes after it is still seen.
            more = [f"-fsanitize-recover={self.sanitize}"] if "address" in self.sanitize else []
            return ["-O1", "-g", "-fno-omit-frame-pointer", f"-fsanitize={self.sanitize}", *more]
        return ["-O0", "--coverage", "-fno-inline"] if self.coverage else ["-O2", "-g1"]

    def make(self) -> Path:
        """Compile what has changed and link; the library's path."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS", "2"))) as pool:
            objects = list(pool.map(self._compile, self.sources()))
        newest = max(path.stat().st_mtime for path in objects)
        if not self.library.exists() or self.library.stat().st_mtime < newest:
            link = [f"-fsanitize={self.sanitize}"] * bool(self.sanitize) + ["--coverage"] * self.coverage
            folder = torch_folder() / "lib"
            torch = [f"-L{folder}", f"-Wl,-rpath,{folder}", "-ltorch_cpu", "-lc10"]
            run([CXX, "-shared", *link, *map(str, objects), *torch, "-o", str(self.library)])
        return self.library

    def _compile(self, source: Path) -> Path:
        relative = source.relative_to(ROOT)
        target = self.folder / ("-".join(relative.with_suffix("").parts) + ".o")
        if is_older(target):
            language = ["-x", "c++"] if source.suffix == ".cu" else []
            run(
                [
                    CXX,
                    *common_flags(),
                    *self.flags(source),
                    "-MMD",
                    "-c",
                    *language,
                    str(relative),
                    "-o",
                    str(target),
                ]
            )
        return target

    def environment(self, halt: bool = False, limits: str = "") -> dict[str, str]:
        """What a Python process needs to run on this build.

        halt: the first report ends the process. limits: more options for every sanitizer.
        """
        preload = [RUNTIMES[name] for name in self.sanitize.split(",") if name]
        preload += ["libstdc++.so"] if preload else []
        found = [capture([CXX, f"-print-file-name={name}"]) for name in preload]
        common = ":".join(filter(None, [f"halt_on_error={halt:d}", limits]))
        race = f"exitcode={66 * halt}:ignore_noninstrumented_modules=1:suppress_equal_stacks=0"
        return {
            **os.environ,
            "LD_PRELOAD": " ".join(found),
            "SSLKERNELS_LIBRARY_PATH": f"{self.folder}:{ROOT / 'sslkernels'}",
            "ASAN_OPTIONS": f"detect_leaks=0:suppress_equal_pcs=0:{common}",
            "UBSAN_OPTIONS": f"print_stacktrace=1:{common}",
            "TSAN_OPTIONS": f"{race}:{common}",
        }

    def run_tests(self, tests: list[str], workers: str, halt: bool = False) -> int:
        """pytest of what runs the CPU's kernels, on this build; its exit status. halt: as in environment."""
        # What a sanitizer says as it ends the process is no output of a test: it must not be kept back.
        ways = ["-q", "-p", "no:cacheprovider", "--capture=sys", f"--ignore-glob={TIMED}", "-k", OTHERS]
        command = [sys.executable, "-m", "pytest", *ways, "-n", workers, *tests]
        return subprocess.run(command, cwd=ROOT, env=self.environment(halt)).returncode


def room_tests() -> list[str]:
    folders = [f"python_tests/{room}" for room in ROOMS]
    return [folder for folder in folders if (ROOT / folder).exists()]


def program(source: str, to: Path, flags: list[str]) -> Path:
    """A C++ file that needs no torch, as a program; the path of the program."""
    to.parent.mkdir(parents=True, exist_ok=True)
    run([CXX, "-std=c++20", "-Icsrc", *warnings(), *flags, source, "-o", str(to)])
    return to


def common_flags() -> list[str]:
    include = torch_folder() / "include"
    return [
        "-std=c++20",
        "-fPIC",
        "-fvisibility=hidden",
        *warnings(),
        "-DTORCH_TARGET_VERSION=0x020a000000000000",
        "-Icsrc",
        f"-isystem{include}",
        f"-isystem{include}/torch/csrc/api/include",
    ]


def warnings() -> list[str]:
    return ["-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-unused-variable"]


def torch_folder() -> Path:
    import importlib.util

    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def is_older(target: Path) -> bool:
    """Whether an object is missing or older than a file that its compiler read."""
    listed = target.with_suffix(".d")
    if not target.exists() or not listed.exists():
        return True
    names = listed.read_text().split(":", 1)[1].replace("\\\n", " ").split()
    read = [ROOT / name for name in names] + [Path(__file__)]
    return any(not path.exists() or path.stat().st_mtime > target.stat().st_mtime for path in read)


def capture(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def run(command: list[str]) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=LIBRARIES)
    parser.add_argument("--sanitize", default="", help="address,undefined or thread")
    parser.add_argument("--coverage", action="store_true")
    options = parser.parse_args()
    try:
        print(Build(options.kind, options.sanitize, options.coverage).make())
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
