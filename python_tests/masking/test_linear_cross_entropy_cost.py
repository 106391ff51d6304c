"""masked_linear_cross_entropy: memory and time follow the scored rows; unchecked labels on a GPU."""

import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sslkernels import _op, use
from sslkernels.masking import masked_linear_cross_entropy

ROOT = Path(__file__).parent.parent.parent

# The peak of what the process holds in memory, above what it holds before; results are left out.
PEAK = """
import resource, sys, threading, torch
from sslkernels.masking import masked_linear_cross_entropy

rows, classes, width, scored, dtype, reduction = sys.argv[1:]
rows, classes, width, scored = int(rows), int(classes), int(width), int(scored)
torch.set_num_threads(2)
generator = torch.Generator().manual_seed(0)
kind = getattr(torch, dtype)
hidden = torch.randn(rows, width, generator=generator).to(kind).requires_grad_()
weight = (torch.randn(classes, width, generator=generator) / width**0.5).to(kind).requires_grad_()
bias = torch.zeros(classes, dtype=kind, requires_grad=True)
labels = torch.full((rows,), -100)
labels[torch.randperm(rows, generator=generator)[:scored]] = torch.randint(classes, (scored,))

def step(count):
    short = labels[:count].clamp(max=299)
    masked_linear_cross_entropy(hidden[:count], weight[:300], short, bias[:300]).backward()

step(64)  # threads and libraries are there
hidden.grad = weight.grad = bias.grad = None
torch.ones(1 << 20).sum()
resident = lambda name: next(
    int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(name))
open("/proc/self/clear_refs", "w").write("5")  # the peak starts anew
before = resident("VmRSS")
loss = masked_linear_cross_entropy(hidden, weight, labels, bias, reduction=reduction)
loss.sum().backward()
results = sum(x.grad.nbytes for x in (hidden, weight, bias)) + loss.nbytes
print(resident("VmHWM") - before - results)
"""


def peak_bytes(*problem: object) -> int:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, "-c", PEAK, *map(str, problem)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="Linux tells the peak")
@pytest.mark.parametrize("scored", [400, 4000])
@pytest.mark.parametrize(("dtype", "reduction"), [("float32", "mean"), ("bfloat16", "none")])
def test_peak_memory(scored: int, dtype: str, reduction: str) -> None:
    """At most 1/8 of the scored rows' logits, or 32 MB where that is more, beside the gradients."""
    classes = 20_011
    allowed = max(scored * classes * 4 // 8, 32 << 20)
    assert peak_bytes(4000, classes, 32, scored, dtype, reduction) <= allowed


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="Linux tells the peak")
@pytest.mark.parametrize(
    ("classes", "width", "scored", "dtype"),
    [
        (20_011, 768, 200, "float32"),
        (20_011, 768, 700, "float32"),
        (5_003, 768, 1000, "float32"),
        (2_003, 8192, 64, "bfloat16"),
        (3_003, 4096, 200, "float64"),
    ],
)
def test_peak_memory_of_wide_rows(classes: int, width: int, scored: int, dtype: str) -> None:
    """The library packs copies of its operands: they count, as do the widened rows of a wide head."""
    assert peak_bytes(1024, classes, width, scored, dtype, "mean") <= 32 << 20


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_time_follows_the_scored_rows(one_thread: None) -> None:
    """Nine times the rows take several times as long, and not much more than nine times.

    CPU seconds of one thread, in turns, the best of each: other processes on the machine count for little.
    """
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(6000, 64, generator=generator).requires_grad_()
    weight = torch.randn(4000, 64, generator=generator).requires_grad_()
    order = torch.randperm(6000, generator=generator)
    best = {300: math.inf, 900: math.inf, 2700: math.inf}
    for _ in range(7):
        for count in best:
            labels = torch.full((len(hidden),), -100)
            labels[order[:count]] = order[:count] % len(weight)
            start = time.process_time()
            masked_linear_cross_entropy(hidden, weight, labels).backward()
            best[count] = min(best[count], time.process_time() - start)
    assert 2.5 * best[300] < best[2700] < 25 * best[300], best
    assert best[900] < 9 * best[300], best


def test_labels_out_of_range_are_skipped_where_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU does without SSLKERNELS_CHECK=1: such a row is not scored, and its label is not followed."""
    kernels = pytest.importorskip("sslkernels.masking.linear_cross_entropy.triton_kernels")
    if _op.OPS["masked_linear_cross_entropy"].kernel("triton", "CPU") is None:
        pytest.skip("the interpreter stands in for a GPU")
    monkeypatch.setattr(kernels, "check_labels", lambda *_: None)
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(23, 7, generator=generator, dtype=torch.float64).requires_grad_()
    bias = torch.randn(23, generator=generator, dtype=torch.float64).requires_grad_()
    hidden = torch.randn(9, 7, generator=generator, dtype=torch.float64)
    labels = torch.tensor([3, 23, 5, -1, 2**40, 22, -100, -(2**62), 0])
    wrong = torch.tensor([False, True, False, True, True, False, True, True, False])
    hidden[wrong] = torch.nan
    results = []
    for given, backend in ((labels, "triton"), (labels.masked_fill(wrong, -100), "reference")):
        with use(backend):
            leaf = hidden.clone().requires_grad_()
            loss = masked_linear_cross_entropy(leaf, weight, given, bias, reduction="none")
            grads = torch.autograd.grad(loss, (leaf, weight, bias), torch.arange(1.0, 10).double())
            results.append((loss.detach(), *grads))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
