"""The emulated GPU catches what it is there for: csrc/emulation/faults.cu holds one fault a kernel."""

import os
import re
import subprocess
from pathlib import Path

import native_builds
import pytest

SOURCE = "csrc/emulation/faults.cu"
RIGHT = ("tree_sum", "warp_sum", "atomic_sum", "votes", "warp_turns")
RACES = (
    "read_before_write",
    "write_after_read",
    "write_write",
    "race_between_blocks",
    "shuffle_for_a_barrier",
)
OVERFLOWS = (
    "shared_overflow",
    "shared_underflow",
    "dynamic_overflow",
    "global_overflow",
    "global_read_overflow",
)
STUCK = {
    "returned_before_barrier": r"__syncthreads at .*faults.cu:{0} for thread \(7, 0, 0\), which has returned",
    "different_barriers": r"in __syncthreads at .*faults.cu:(\d+) .*in __syncthreads at .*faults.cu:(\d+)",
    "barrier_too_often": r"waits in __syncthreads at .*faults.cu:{0} .*which has returned",
    "returned_lane_in_mask": r"in a shuffle at .*faults.cu:{0} for thread \(5, 0, 0\), which has returned",
    "outside_its_own_mask": r"is not in its own mask in a shuffle at .*faults.cu:{0}",
    "shuffle_beside_ballot": r"waits in a (shuffle|ballot) at .*which waits in a (shuffle|ballot) at",
    "lane_that_does_not_exist": r"the mask names a lane that the block does not have in a ballot at .*:{0}",
    "too_much_shared": r"more shared memory than a block has",
    "empty_grid": r"launch: a grid has 1 to 2\^31 - 1 blocks.*got \(0, 1, 1\)",
    "block_too_large": r"launch: a block has 1 to 1024 threads.*got \(1025, 1, 1\)",
}
SANITIZERS = ("", "address,undefined", "thread")


def build(sanitize: str, folder: Path) -> Path:
    """faults.cu and the emulated machine as a program; needs no torch."""
    program = folder / "faults"
    flags = ["-std=c++20", "-Icsrc", *native_builds.warnings()]
    sanitizing = ["-O1", "-g", f"-fsanitize={sanitize}"] if sanitize else ["-O2"]
    objects = []
    for source in [native_builds.ROOT / SOURCE, *native_builds.ROOT.glob("csrc/emulation/*.cpp")]:
        objects.append(str(folder / f"{source.stem}.o"))
        mine = sanitizing if source.suffix == ".cu" else ["-O2"]
        command = [native_builds.CXX, *flags, *mine, "-c", "-x", "c++", str(source), "-o", objects[-1]]
        native_builds.run(command)
    link = [f"-fsanitize={sanitize}"] if sanitize else []
    native_builds.run([native_builds.CXX, *link, *objects, "-o", str(program)])
    return program


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: build(name, tmp_path_factory.mktemp(name.split(",")[0] or "plain")) for name in SANITIZERS}


def start(program: Path, kernel: str, seed: int | None = None) -> subprocess.CompletedProcess[str]:
    settings = {} if seed is None else {"SSLKERNELS_EMULATION_SEED": str(seed)}
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0", "TSAN_OPTIONS": "exitcode=66", **settings}
    # ThreadSanitizer's shadow does not stand address-space randomisation on newer kernels.
    command = ["setarch", "-R", str(program), kernel]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def line_of(kernel: str, text: str) -> int:
    """The line of the first barrier or warp operation of a kernel."""
    lines = (native_builds.ROOT / SOURCE).read_text().splitlines()
    first = next(at for at, line in enumerate(lines) if f"void {kernel}(" in line)
    return next(at for at in range(first, len(lines)) if re.search(text, lines[at])) + 1


@pytest.mark.parametrize("kernel", RIGHT)
@pytest.mark.parametrize("sanitize", SANITIZERS)
def test_right_kernels_pass(programs: dict[str, Path], kernel: str, sanitize: str) -> None:
    for seed in (None, 1):
        done = start(programs[sanitize], kernel, seed)
        assert done.returncode == 0, done.stdout + done.stderr
        assert not done.stderr


@pytest.mark.parametrize("kernel", RACES)
def test_races_are_reported_with_both_lines(programs: dict[str, Path], kernel: str) -> None:
    for seed in (0, 1, 2):
        done = start(programs["thread"], kernel, seed)
        assert done.returncode == 66, done.stdout
        assert "ThreadSanitizer: data race" in done.stderr
        first = line_of(kernel, "void")
        lines = [int(at) for at in re.findall(rf"#0 .*{kernel}.*faults\.cu:(\d+)", done.stderr)]
        assert len(lines) >= 2
        assert all(first <= at < first + 12 for at in lines)


def test_uninitialised_shared_memory_is_poisoned(programs: dict[str, Path]) -> None:
    """Without a sanitizer, too: what nobody has written is -1, so that the order of threads shows."""
    found = {start(programs[""], "read_before_write", seed).stdout for seed in range(6)}
    assert any("gave -1" in text for text in found)


def test_order_of_blocks_changes_with_the_seed(programs: dict[str, Path]) -> None:
    assert len({start(programs[""], "race_between_blocks", seed).stdout for seed in range(8)}) == 2
    assert len({start(programs[""], "race_between_blocks", 5).stdout for _ in range(3)}) == 1


@pytest.mark.parametrize("kernel", OVERFLOWS)
def test_overflows_are_reported_with_the_line(programs: dict[str, Path], kernel: str) -> None:
    done = start(programs["address,undefined"], kernel)
    assert done.returncode not in (0, 3)
    assert "AddressSanitizer: heap-buffer-overflow" in done.stderr
    assert re.search(rf"#0 .*{kernel}.*faults\.cu:\d+", done.stderr)


@pytest.mark.parametrize("kernel", STUCK)
@pytest.mark.parametrize("sanitize", SANITIZERS)
def test_what_never_meets_is_named(programs: dict[str, Path], kernel: str, sanitize: str) -> None:
    for seed in (0, 1):
        done = start(programs[sanitize], kernel, seed)
        assert done.returncode == 3, done.stdout + done.stderr
        pattern = STUCK[kernel]
        if "{0}" in pattern:
            pattern = pattern.format(line_of(kernel, r"__\w+\("))
        found = re.search(pattern, done.stderr)
        assert found, done.stderr
        assert len(set(found.groups())) == len(found.groups()), "names one place twice"
