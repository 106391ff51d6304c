"""Going on is not starting over: signals, kills and torn checkpoints against the uninterrupted run."""

import os
import shutil
import signal
from pathlib import Path

import pytest
import torch

from sslkernels.pretrain import checkpoint
from sslkernels.pretrain.loop import learning_rate
from sslkernels.pretrain.stop import Stopped, StopRequest

from .runs import RECIPE, forked, losses, rows
from .test_cli import refused

# 7 steps an epoch: 20 lies in the third
KEYS = ("steps=26", "checkpoint_every=5", "log_every=1", "dropout=0.1", "warmup=12")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    result = forked(RECIPE, *KEYS, "--out", "run", cwd=folder, SEEN=str(folder / "seen"))
    assert result.status == 0, result.err
    return folder / "run"


def same(run, whole):
    assert [row["step"] for row in rows(run)] == list(range(1, 27))
    for ours, theirs in zip(rows(run), rows(whole), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-6)
        assert ours["lr"] == theirs["lr"]
    return True


@pytest.mark.parametrize("step", [1, 4, 5, 6, 7, 11, 17, 25, 26])
def test_stopped_by_sigterm_anywhere(train, tmp_path, monkeypatch, whole, step):
    """accelerate #2016, transformers #40690: epoch 0's order again; lightning #4655: warm-up again."""
    monkeypatch.setenv("SIGNAL_AT", f"{step}:{signal.SIGTERM.value}")
    stopped = train(*KEYS, "--out", "run")
    assert stopped.status == 143
    assert stopped.err == ""
    words = (
        next(line for line in stopped.out.splitlines() if "--resume" in line).split("pretrain ")[1].split()
    )
    # the signal comes after a step and is met by the next one, except behind the last
    assert (tmp_path / "run" / "latest").read_text().strip() == f"step-{min(step + 1, 26)}"
    monkeypatch.delenv("SIGNAL_AT")
    assert train(*words, recipe=None).status == 0
    assert same(tmp_path / "run", whole)


def test_stopped_before_and_after_training(train, tmp_path, monkeypatch, whole):
    monkeypatch.setenv("SIGNAL_AT", "data")
    early = train(*KEYS, "--out", "run")
    assert (early.status, early.out) == (143, "")
    assert "before the run began" in early.err
    assert list(tmp_path.iterdir()) == []
    monkeypatch.delenv("SIGNAL_AT")
    run = shutil.copytree(whole, tmp_path / "run")
    (run / "results.json").unlink()
    monkeypatch.setattr(checkpoint, "whole_weights", lambda model: signal.raise_signal(signal.SIGTERM))
    late = train("--resume", "run")
    assert (late.status, late.err) == (143, "")
    assert "--resume" in late.out
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert train("--resume", "run").status == 0
    assert (run / "results.json").read_text() == (whole / "results.json").read_text()


def test_killed_in_the_third_epoch(tmp_path, whole):
    """datasets and rows: no sample of an epoch twice, no line twice (trackio #125, lightning #13163)."""
    seen = {"SEEN": str(tmp_path / "seen")}
    killed = forked(RECIPE, *KEYS, "--out", "run", cwd=tmp_path, SIGNAL_AT="18:9", **seen)
    assert killed.status == -signal.SIGKILL
    assert [row["step"] for row in rows(tmp_path / "run")] == list(range(1, 18))
    first = (tmp_path / "seen").read_text().splitlines()
    (tmp_path / "seen").unlink()
    resumed = forked(RECIPE, "--resume", "run", cwd=tmp_path, **seen)
    assert resumed.status == 0, resumed.err
    assert "going on from step 15" in resumed.out
    assert same(tmp_path / "run", whole)
    second = (tmp_path / "seen").read_text().splitlines()
    uninterrupted = (whole.parent / "seen").read_text().splitlines()
    kept = 2 * 101 + 16  # steps 1 to 15: two epochs and a batch
    assert first[:kept] + second == uninterrupted


def test_killed_before_the_first_checkpoint(tmp_path, train, whole):
    killed = forked(RECIPE, *KEYS, "--out", "run", cwd=tmp_path, SIGNAL_AT="3:9")
    assert killed.status == -signal.SIGKILL
    assert train("--resume", "run").status == 0
    assert same(tmp_path / "run", whole)


@pytest.mark.parametrize("moment", ["_empty_folder", "_close", "_to_disk", "whole_weights"])
def test_broken_off_while_saving(train, tmp_path, monkeypatch, whole, moment):
    class Killed(BaseException):
        pass

    def broken(*arguments):
        if (tmp_path / "run" / "step-10").exists():
            raise Killed
        return original(*arguments)

    original = getattr(checkpoint, moment)
    monkeypatch.setattr(checkpoint, moment, broken)
    with pytest.raises(Killed):
        train(*KEYS, "--out", "run")
    monkeypatch.setattr(checkpoint, moment, original)
    assert not (tmp_path / "run" / "step-15").exists()
    result = train("--resume", "run")
    assert "going on from step 10" in result.out
    assert same(tmp_path / "run", whole)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


FILES = ("__0_0.distcp", ".metadata", "weights.safetensors", "checksums.json", "complete")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [cut, flip, empty, Path.unlink])
def test_a_torn_checkpoint_does_not_count(tmp_path, whole, name, damage):
    """speculators #739, metaseq #53: one flipped byte is noticed by nobody."""
    folder = shutil.copytree(whole / "step-20", tmp_path / "step-20")
    assert checkpoint.fault(folder) is None
    damage(folder / name)
    assert checkpoint.fault(folder)
    shutil.copytree(whole / "step-15", tmp_path / "step-15")
    said = []
    assert checkpoint.newest(tmp_path, said.append) == 15
    assert len(said) == 1
    assert "step-20" in said[0]


def test_the_newest_whole_one_is_taken(train, tmp_path, whole):
    run = shutil.copytree(whole, tmp_path / "run")
    (run / "results.json").unlink()
    cut(run / "step-26" / "__0_0.distcp")
    (run / "step-25" / ".metadata").unlink()
    (run / "step-20.tmp").mkdir()
    (run / "latest").write_text("step-99\n")
    result = train("--resume", "run")
    assert result.status == 0
    left_out = [line for line in result.out.splitlines() if line.startswith("left out")]
    assert ["step-26" in left_out[0], "step-25" in left_out[1], len(left_out)] == [True, True, 2]
    assert "going on from step 20" in result.out
    assert same(run, whole)
    assert checkpoint.fault(run / "step-26") is None  # written anew


def test_all_torn_is_an_error_that_changes_nothing(train, tmp_path, whole):
    run = shutil.copytree(whole, tmp_path / "run")
    for folder in run.glob("step-*"):
        (folder / "complete").unlink()
    before = sorted((path, path.stat().st_size) for path in run.rglob("*"))
    config = (run / "config.json").read_bytes()
    result = train("--resume", "run", "steps=99", "log_every=2")
    assert refused(result, "run")
    assert sorted((path, path.stat().st_size) for path in run.rglob("*")) == before
    assert (run / "config.json").read_bytes() == config


def test_a_finished_run_says_so(train, tmp_path, whole):
    run = shutil.copytree(whole, tmp_path / "run")
    result = train("--resume", "run", "log_every=7")
    assert (result.status, result.err) == (0, "")
    assert "finished" in result.out
    assert rows(run) == rows(whole)


def test_figures_that_are_missing_are_made_up_for(train, tmp_path, whole):
    run = shutil.copytree(whole, tmp_path / "run")
    (run / "results.json").unlink()
    assert train("--resume", "run").status == 0
    assert (run / "results.json").read_text() == (whole / "results.json").read_text()
    assert rows(run) == rows(whole)


def test_more_steps_follow_the_schedule_of_the_new_length(train, tmp_path, whole):
    run = shutil.copytree(whole, tmp_path / "run")
    assert refused(train("--resume", "run", "steps=20"), "steps")
    assert train("--resume", "run", "steps=40", "workers=1", "log_every=3", "checkpoint_every=50").status == 0
    assert rows(run)[:26] == rows(whole)
    assert [row["step"] for row in rows(run)[26:]] == [27, 30, 33, 36, 39, 40]
    from dataclasses import replace

    from sslkernels.pretrain.config import load, resumed
    from sslkernels.pretrain.recipes import load as recipe

    saved = load(run)
    config = resumed(recipe(RECIPE).Config, saved, [])
    assert (config.steps, config.log_every) == (40, 3)
    for row in rows(run)[26:]:
        assert row["lr"] == learning_rate(config, row["step"] - 1)
        assert row["step"] == 40 or row["lr"] > learning_rate(replace(config, steps=26), row["step"] - 1)


@pytest.mark.parametrize("change", ["lr=0.5", "seed=1", "batch_size=8", "dropout=0.2", "rows=102"])
def test_another_experiment_is_refused(train, tmp_path, whole, change):
    shutil.copytree(whole, tmp_path / "run")
    assert refused(train("--resume", "run", change), change.partition("=")[0])


def test_old_checkpoints_go_when_only_some_are_kept(train, tmp_path):
    assert train("steps=26", "checkpoint_every=5", "keep=2", "--out", "run").status == 0
    assert checkpoint.steps(tmp_path / "run") == [26, 25]


def test_a_full_disk_keeps_the_last_checkpoint(train, tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    assert train("steps=5", "--out", "run").status == 0
    monkeypatch.setattr(checkpoint.dcp, "save", full)
    assert refused(train("steps=8", "--resume", "run"), "step-8", "No space left")
    monkeypatch.setattr(checkpoint, "save_file", full)
    monkeypatch.undo()
    assert checkpoint.fault(tmp_path / "run" / "step-5") is None


def test_a_full_disk_while_the_weights_are_written(train, tmp_path, monkeypatch):
    """safetensors raises an error of its own, no OSError."""
    from safetensors import SafetensorError

    def full(*arguments):
        raise SafetensorError("I/O error: No space left on device")

    assert train("steps=5", "--out", "run").status == 0
    monkeypatch.setattr(checkpoint, "save_file", full)
    assert refused(train("steps=8", "--resume", "run"), "step-8", "weights.safetensors", "No space left")
    assert (tmp_path / "run" / "latest").read_text() == "step-5\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device that is always full")
@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "results.json", "latest"])
def test_a_full_disk_names_what_it_kept(train, tmp_path, whole, name):
    run = shutil.copytree(whole, tmp_path / "run")
    before = (run / name).read_text()
    os.symlink("/dev/full", run / f"{name}.tmp")
    assert refused(train("steps=28", "--resume", "run"), name, "No space left")
    assert name == "results.json" or (run / name).read_text() == before


def test_the_cause_behind_an_error_of_torch():
    """Its writer says "unexpected pos" of a full disk."""
    error = RuntimeError("unexpected pos 704 vs 598")
    error.__context__ = OSError(28, "No space left on device")
    assert checkpoint._cause(error) == "No space left on device"


def test_a_torn_newest_checkpoint_does_not_push_out_the_whole_ones(train, tmp_path, monkeypatch, whole):
    run = shutil.copytree(whole, tmp_path / "run")
    (run / "results.json").unlink()
    (run / "step-26" / "complete").unlink()
    shutil.rmtree(run / "step-25")
    (run / "step-7.tmp").mkdir()
    monkeypatch.setenv("SIGNAL_AT", f"22:{signal.SIGTERM.value}")
    assert train("--resume", "run", "keep=1", "checkpoint_every=100").status == 143
    assert [step for step in checkpoint.steps(run) if checkpoint.fault(run / f"step-{step}") is None] == [23]
    assert not (run / "step-7.tmp").exists()  # what a kill left
    monkeypatch.delenv("SIGNAL_AT")
    assert train("--resume", "run").status == 0
    assert same(run, whole)


def test_a_checkpoint_of_another_step_does_not_count(tmp_path, whole):
    folder = shutil.copytree(whole / "step-20", tmp_path / "step-21")
    assert "step 20" in checkpoint.fault(folder)


def test_a_finished_run_without_its_metrics(train, tmp_path, whole):
    run = shutil.copytree(whole, tmp_path / "run")
    for name in ("results.json", "metrics.jsonl"):
        (run / name).unlink()
    assert train("--resume", "run").status == 0
    assert (run / "results.json").exists()


def test_a_second_signal_does_not_disturb_the_first():
    with StopRequest() as stop:
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
    with StopRequest() as stop:
        stop.hold()
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Stopped):
            stop.answer_at_once()
        signal.raise_signal(signal.SIGTERM)


def test_weights_that_lie_transposed_are_written(tmp_path):
    net = torch.nn.Linear(3, 2)
    net.weight = torch.nn.Parameter(torch.arange(6.0).view(3, 2).T)
    net.tied = net.weight
    (tmp_path / "step-1.tmp").mkdir()
    checkpoint._close(tmp_path, 1, tmp_path / "step-1.tmp", net.state_dict(), 0)
    from safetensors.torch import load_file

    weights = load_file(tmp_path / "step-1" / "weights.safetensors")
    assert torch.equal(weights["weight"], net.weight)
    assert torch.equal(weights["tied"], net.weight)


def test_weights_for_others(whole):
    from safetensors.torch import load_file

    weights = load_file(whole / "step-26" / "weights.safetensors")
    assert weights["head.weight"].shape == (16, 32)
    assert int(weights["calls"]) == 26
    assert all(torch.isfinite(value).all() for value in weights.values())


def test_the_schedule_is_a_function_of_the_step():
    from sslkernels.pretrain.config import TrainConfig

    config = TrainConfig(steps=100, warmup=10, lr=2.0, min_lr=0.1)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[:10] == pytest.approx([0.2 * (step + 1) for step in range(10)])
    assert rates[10] == 2.0
    assert rates[-1] == pytest.approx(0.2)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert learning_rate(TrainConfig(steps=1, warmup=0), 0) == 1e-3
    assert learning_rate(TrainConfig(steps=5, warmup=50), 4) == pytest.approx(1e-4)


def test_a_process_group_wide_signal_leaves_the_workers_alone(tmp_path, train, whole):
    """`timeout` and a terminal signal every process of the group, loader workers too."""
    arguments = (RECIPE, *KEYS, "workers=2", "--out", "run")
    stopped = forked(*arguments, cwd=tmp_path, SIGNAL_AT="8:15", SIGNAL_GROUP="1")
    assert (stopped.status, stopped.err) == (143, "")
    assert train("--resume", "run").status == 0
    assert losses(tmp_path / "run") == pytest.approx(losses(whole), abs=1e-6)
    assert os.path.exists(tmp_path / "run" / "results.json")
