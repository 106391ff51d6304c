"""What is written by hand for AVX2 and AVX-512 gives the bits of the plain loops."""

import subprocess
from pathlib import Path

import native_builds
import pytest

SOURCE = "csrc/instruction_sets/compare.cpp"
# csrc/common/instruction_sets.h: what a variant may run, as the kernel lists a processor's flags.
NEEDS = {"avx2": {"avx2"}, "avx512": {"avx512f", "avx512bw", "avx512vl"}}
FLAGS = {"": ["-O2"], "address,undefined": ["-O1", "-g", "-fsanitize=address,undefined"]}


def processor() -> set[str]:
    """What the processor has; nothing where it is none of x86-64."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((set(line.split(":")[1].split()) for line in lines if line.startswith("flags")), set())


@pytest.fixture(scope="module", params=FLAGS, ids=lambda name: name or "plain")
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """variant -> what the program says of it."""
    to = tmp_path_factory.mktemp("variants") / "compare"
    program = native_builds.program(SOURCE, to, FLAGS[request.param])
    done = subprocess.run([str(program)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


def test_what_is_called_gives_the_plain_bits(told: dict[str, str]) -> None:
    """Also where a static initialiser calls, before any other code of the program has run."""
    for name in ("at_start", "draw_lanes", "list_set", "lay_out"):
        assert told[name] == "same"


def test_every_variant_gives_the_plain_bits(told: dict[str, str]) -> None:
    variants = {name: name.rsplit("_", 1)[1] for name in told if "_avx" in name}
    has = processor()
    for name, instructions in variants.items():
        expected = "same" if has >= NEEDS[instructions] else "not on this processor"
        assert told[name] == expected, name
    if has:
        assert set(variants) == {
            "draw_lanes_avx2",
            "draw_lanes_avx512",
            "list_set_avx512",
            "mark_cells_avx512",
            "lay_out_avx512",
        }


def test_every_variant_of_the_sources_is_compared() -> None:
    """A function of a header that is written for an instruction set by name is one that the program runs."""
    text = (native_builds.ROOT / SOURCE).read_text()
    written = {
        line.split("(")[0].split()[-1]
        for path in native_builds.ROOT.glob("csrc/**/*.h")
        for line in path.read_text().splitlines()
        if "SSLK_AVX" in line and "static" in line
    }
    assert written
    assert not {name for name in written if f'"{name}"' not in text}
