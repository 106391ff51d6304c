"""What `make mutations` stands on: it knows every kernel's checks, and no process outlives its time."""

import os
import signal
import time

import mutations
import pytest
import sanitized


def test_every_kernel_has_checks_that_can_be_taken_away() -> None:
    known = mutations.kernels()
    assert {"graph/segments/cuda.cu: long_softmax_kernel", "eulerian/walks/cuda.cu: walk_kernel"} <= set(
        known
    )
    assert not [kernel for kernel, own in known.items() if not own]


def test_every_check_is_in_a_kernel() -> None:
    assert not mutations.uncalled()


def test_checks_in_headers_belong_to_the_kernels_that_call_them() -> None:
    files = {site.file for site in mutations.kernels()["eulerian/walks/cuda.cu: walk_kernel"]}
    assert {"eulerian/walks/cuda.cu", "eulerian/walks/incidence.h", "eulerian/walks/trail.h"} <= files
    assert "eulerian/walks/incidence.h" not in {
        site.file for site in mutations.kernels()["eulerian/walks/cuda.cu: copy_kernel"]
    }


def forever() -> str:
    while True:
        pass


def test_a_process_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutations, "SLOWEST", 1000)  # by its CPU time, however busy the machine
    text, pid, status = mutations.in_child(forever, 0.2)
    assert not text
    assert os.WTERMSIG(status) == signal.SIGPROF
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_process_that_waits_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting takes no CPU time."""
    monkeypatch.setattr(mutations, "SLOWEST", 1)
    before = time.monotonic()
    text, _, status = mutations.in_child(lambda: str(time.sleep(600)), 0.2)
    assert (text, os.WTERMSIG(status)) == ("", signal.SIGKILL)
    assert time.monotonic() - before < 60


def test_a_process_answers() -> None:
    text, _, status = mutations.in_child(lambda: "x" * 200_000, 10)
    assert (len(text), status) == (200_000, 0)


@pytest.mark.parametrize(
    ("report", "line"),
    [
        ("", ""),
        ("UserWarning: of no interest\n", ""),
        (f"{sanitized.ROOT}/a.h:3:4: runtime error: index 13\n #0 x", "a.h:3:4: runtime error: index 13"),
        (
            "==1==ERROR: AddressSanitizer: SEGV at 0\nSUMMARY: AddressSanitizer: SEGV (/a/b.so+0x12) in f\n",
            "AddressSanitizer: SEGV in f",
        ),
        ("WARNING: ThreadSanitizer: data race (pid=1)\n", "WARNING: ThreadSanitizer: data race (pid=1)"),
    ],
    ids=("none", "warning", "undefined", "address", "cut short"),
)
def test_a_report_in_one_line(report: str, line: str) -> None:
    assert sanitized.summary(report) == line


def test_what_nothing_misses_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    names = mutations.sites()
    assert mutations.summary(names, [], [], []) == 0
    assert mutations.summary(names, [0], ["a.cu: bare_kernel"], [names[1]]) == 3
    said = capsys.readouterr().out
    assert f"{names[0]}: {names[0].check} is noticed by nothing" in said
    assert "a.cu: bare_kernel has no barrier" in said
    assert f"{names[1]}: {names[1].check} is in no kernel" in said
