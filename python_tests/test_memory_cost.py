"""What results cost in page faults: one for every 4 KiB, which takes longer than to write there."""

import os
import platform
import subprocess
import sys

import pytest

START = """
import resource, numpy, torch
from sslkernels import host, masking

def faults(call, times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        call()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / times

torch.set_num_threads(1)
"""


def run(program: str, **environment: str) -> list[float]:
    """The numbers that a process of its own prints."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", START + program]
    done = subprocess.run(command, capture_output=True, text=True, env={**plain, **environment})
    assert done.returncode == 0, done.stderr
    return [float(number) for number in done.stdout.split()]


SMALL_RESULTS = """
ids = torch.randint(5, 30522, (256, 512)){array}
call = lambda: {face}.corrupt_tokens(ids, mix=(0, 1, 0), vocab_size=30522, labels="selected", seed=1)
for _ in range(5):
    call()
print(faults(call, 20))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's heap")
@pytest.mark.parametrize(("face", "array"), [("masking", ""), ("host", ".numpy()")])
def test_a_loop_meets_few_fresh_pages(face: str, array: str) -> None:
    """glibc would give the results, 544 pages, back after each call and take them anew."""
    assert run(SMALL_RESULTS.format(face=face, array=array))[0] < 100


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's heap")
def test_the_environment_has_the_last_word() -> None:
    assert run(SMALL_RESULTS.format(face="masking", array=""), MALLOC_TRIM_THRESHOLD_="131072")[0] > 300


def test_large_results_lie_in_huge_pages() -> None:
    """Where the system gives any: NumPy asks for them too."""
    theirs, ours = run("""
x, keep = torch.ones(64, 196, 768), torch.arange(196).repeat(64, 1)
print(faults(lambda: numpy.ones(64 * 196 * 768, dtype=numpy.float32), 5))
print(faults(lambda: masking.gather_visible(x, keep), 5))
""")
    pages = 64 * 196 * 768 * 4 / 4096
    if theirs > pages / 8:
        pytest.skip("the system gives no huge pages")
    assert ours < pages / 4
