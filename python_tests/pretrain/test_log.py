"""What a run writes and shows, in files, on terminals and without a home."""

import json
import os
import pty
import select
import subprocess
import sys
from pathlib import Path

import pytest

from sslkernels.pretrain.config import UserError
from sslkernels.pretrain.log import Log, draw_curves, read_rows

from .runs import RECIPE, ROOT, rows, spawn


def row(step, **more):
    return {"step": step, "loss": 1.0 / step, "lr": 0.1, "samples_per_second": 5.0, **more}


def test_rows_past_the_resume_point_are_dropped(tmp_path):
    with Log(tmp_path, 0, 9) as log:
        for step in range(1, 8):
            log.row(row(step))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "lo')  # killed while writing
    with Log(tmp_path, 5, 9) as log:
        log.row(row(6, loss=3.0))
    assert [each["step"] for each in rows(tmp_path)] == [1, 2, 3, 4, 5, 6]
    assert rows(tmp_path)[-1]["loss"] == 3.0


def test_a_step_is_read_once(tmp_path):
    lines = [row(1), row(2), row(2, loss=9.0), row(1), row(3)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    assert [(each["step"], each["loss"]) for each in read_rows(tmp_path)] == [(1, 1), (2, 0.5), (3, 1 / 3)]
    assert read_rows(tmp_path / "nowhere") == []


def test_lines_that_are_no_rows_are_passed_over(tmp_path):
    """A line damaged in the middle takes none of those behind it along."""
    bad = ['{"step": 2, "lo', "[2]", "2", "null", '{"loss": 1}', '{"step": "2"}', '{"step": null}', "\0\xff"]
    bad += ['{"step": 2, "loss": NaN}', '{"step": 2, "loss": 1e999}', '{"step": 2, "loss": "x"}', "", "{}"]
    bad += [
        '{"step": 2, "loss": 1.0, "lr": 0.1}',
        '{"step": 2, "loss": null, "lr": 1, "samples_per_second": 1}',
    ]
    lines = [json.dumps(row(1)), *bad, json.dumps(row(3))]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n", encoding="latin-1")
    with Log(tmp_path, 5, 9):
        pass
    assert rows(tmp_path) == [row(1), row(3)]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device that is always full")
def test_a_full_disk_names_the_file(tmp_path):
    os.symlink("/dev/full", tmp_path / "curves.png.tmp")
    with pytest.raises(UserError, match=r"curves\.png cannot be written: No space left"):
        draw_curves([row(1)], tmp_path / "curves.png")
    with Log(tmp_path, 0, 2) as log:
        log.file.close()
        log.file = Path("/dev/full").open("ab", buffering=0)  # noqa: SIM115
        with pytest.raises(UserError, match=r"metrics\.jsonl cannot be written: No space left"):
            log.row(row(1))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device that is always full")
def test_what_ended_a_run_is_said_and_not_the_picture(train, tmp_path):
    (tmp_path / "run").mkdir()
    os.symlink("/dev/full", tmp_path / "run" / "curves.png.tmp")
    result = train("steps=30", "ruin=23", "--out", "run")
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert "step 23" in result.err


def test_matplotlib_is_missed_before_training(train, monkeypatch, tmp_path):
    def missing(width, height):
        raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")

    monkeypatch.setattr("sslkernels.pretrain.log._figure", missing)
    result = train("steps=2", "--out", "run")
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert "matplotlib" in result.err
    assert "step 1" not in result.out


def test_what_is_not_finite_is_null(tmp_path):
    with Log(tmp_path, 0, 2) as log:
        log.row(row(1, accuracy=float("nan"), norm=float("inf")))
    assert rows(tmp_path)[0]["accuracy"] is None
    assert rows(tmp_path)[0]["norm"] is None


def test_a_row_is_on_disk_before_the_next(tmp_path):
    with Log(tmp_path, 0, 2) as log:
        log.row(row(1))
        assert len(rows(tmp_path)) == 1


def test_curves_of_little(tmp_path):
    draw_curves([], tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()
    draw_curves([row(1, only_null=None)], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_no_display_and_no_home(tmp_path):
    """matplotlib #6739, #7115."""
    environment = {"DISPLAY": None, "MPLBACKEND": "TkAgg", "HOME": "/nonexistent", "MPLCONFIGDIR": None}
    result = spawn(RECIPE, "steps=20", "--out", "run", cwd=tmp_path, **environment)
    assert (result.status, result.err) == (0, "")
    assert (tmp_path / "run" / "curves.png").stat().st_size > 1000
    assert "\r" not in result.out
    assert len([line for line in result.out.splitlines() if line.startswith("step ")]) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="a pseudo-terminal")
def test_a_terminal_gets_a_bar(tmp_path):
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TERM": "xterm"}
    command = [sys.executable, "-m", "sslkernels.pretrain", RECIPE, "steps=20", "--out", "run"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env={**environment, "COLUMNS": "120"}, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    while select.select([ours], [], [], 60)[0]:
        try:
            shown += os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
    assert process.wait() == 0
    text = shown.decode()
    for word in ("20/20", "loss", "samples/s", "left"):
        assert word in text
    assert "step 10/20 loss" not in text  # plain lines are for files
