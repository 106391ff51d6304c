"""The command line: what is refused in one line with status 2, and leaves nothing behind."""

import json
import os
import sys

import pytest

from sslkernels.pretrain import recipes
from sslkernels.pretrain.cli import main

from .runs import RECIPE, ROOT, forked, rows, spawn


def refused(result, *words):
    assert result.status == 2
    assert result.err.count("\n") == 1
    assert "Traceback" not in result.err + result.out
    for word in words:
        assert word in result.err
    return True


def test_list_and_help(train):
    listed = train("--list", recipe=None)
    assert listed.status == 0
    assert [line.split()[0] for line in listed.out.splitlines()] == recipes.names()
    assert all(len(line.split()) > 3 for line in listed.out.splitlines())
    shown = train("--help")
    assert shown.status == 0
    for key in (
        "steps=40",
        "batch_size=16",
        "log_every=10",
        "checkpoint_every=200",
        "workers=0",
        "dropout=0.0",
    ):
        assert f"  {key} " in shown.out
    assert train("--help", recipe=None).status == 0


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        *((["steps=ten"], "steps"), (["steps="], "steps"), (["steps=1.5"], "steps"), (["steps"], "steps")),
        *((["stpes=10"], "stpes"), (["--stpes", "10"], "--stpes"), (["--data"], "--data")),
        *((["--data", "nowhere.csv"], "nowhere.csv"), (["--data", "/dev/null"], "/dev/null")),
        *((["--resume", "nowhere"], "nowhere"), (["--resume", "a", "--out", "b"], "--out")),
        *((["--out", "/dev/null"], "/dev/null"), (["--out", "/dev/null/deeper"], "/dev/null")),
        *((["--out", "/proc/nowhere/run"], "/proc"), (["device=cuda"], "device")),
        *((["--data", "/dev/zero"], "neither a file nor a folder"), (["rows=0"], "no sample")),
    ],
)
def test_what_is_wrong_is_named_in_one_line(train, tmp_path, arguments, word):
    if word == "device":
        import torch

        if torch.cuda.is_available():
            pytest.skip("device=cuda is right here")
    assert refused(train(*arguments), word)
    assert list(tmp_path.iterdir()) == []  # no run directory, nothing at all


@pytest.mark.parametrize(
    "name", ["nope", "graphgtp", "nowhere.py", "no.such.module", "json.decoder", "", "a/b"]
)
def test_an_unknown_recipe_is_named(train, name):
    assert refused(train(name, recipe=None), name)


def test_no_recipe_at_all(train):
    assert refused(train(recipe=None), "no recipe")
    assert refused(train("steps=10", recipe=None), "no recipe")


def test_accumulation_is_refused_where_samples_are_compared(train, tmp_path):
    path = tmp_path / "compared.py"
    path.write_text(
        "from sslkernels.pretrain.recipe import Recipe\nclass Compared(Recipe):\n    accumulates = False\n"
    )
    assert refused(train("accumulation=2", recipe=str(path)), "accumulation")


def test_a_users_own_recipe_has_a_name_of_any_kind(train, tmp_path, monkeypatch):
    (tmp_path / "ours").mkdir()
    with open(RECIPE) as source:
        (tmp_path / "ours" / "mine.py").write_text(source.read())
    monkeypatch.syspath_prepend(tmp_path)
    assert train("steps=2", "--out", "a", recipe="ours.mine").status == 0
    assert train("steps=2", "--out", "b", recipe="ours/mine.py").status == 0
    assert rows(tmp_path / "a")[-1]["loss"] == rows(tmp_path / "b")[-1]["loss"]
    assert train("steps=3", "--resume", "b", recipe=str(tmp_path / "ours" / "mine.py")).status == 0
    assert refused(train("--resume", "b", recipe="ours.mine"), "ours.mine")
    sys.modules.pop("ours.mine", None)


def test_two_recipes_in_a_file_are_one_too_many(train, tmp_path):
    path = tmp_path / "two.py"
    path.write_text(
        "from sslkernels.pretrain.recipe import Recipe\nclass A(Recipe): pass\nclass B(Recipe): pass\n"
    )
    assert refused(train(recipe=str(path)), "2 subclasses")


def test_a_run_writes_what_it_says(train, tmp_path):
    result = train("steps=25", "checkpoint_every=10")
    assert result.status == 0
    assert result.err == ""
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.startswith("projected-")
    lines = result.out.splitlines()
    assert str(run) in lines[0]
    assert str(run) in lines[-1]
    assert any(str(run / "curves.png") in line for line in lines)
    steps = [line for line in lines if line.startswith("step ")]
    assert [line.split()[1] for line in steps] == ["10/25", "20/25", "25/25"]
    assert [row["step"] for row in rows(run)] == [10, 20, 25]
    for row, line in zip(rows(run), steps, strict=True):
        assert {"step", "epoch", "samples", "loss", "lr", "samples_per_second"} <= row.keys()
        assert float(line.split()[-1]) == pytest.approx(row["loss"], rel=1e-5)
    names = {path.name for path in run.iterdir()} - {"tensorboard"}
    checkpoints = {"step-10", "step-20", "step-25", "latest"}
    assert names == {"config.json", "metrics.jsonl", "curves.png", "results.json", *checkpoints}
    assert (run / "latest").read_text().strip() == "step-25"
    assert json.loads((run / "config.json").read_text())["steps"] == 25


def test_a_folder_with_a_run_is_never_written_over(train, tmp_path):
    assert train("steps=2", "--out", "run").status == 0
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert refused(train("steps=3", "--out", "run"), "run", "--resume")
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    (tmp_path / "empty").mkdir()
    assert train("steps=2", "--out", "empty").status == 0
    (tmp_path / "half" / "step-3").mkdir(parents=True)
    assert refused(train("steps=3", "--out", "half"), "half")


def test_two_runs_in_one_second_have_folders_of_their_own(train, tmp_path, monkeypatch):
    monkeypatch.setattr("time.strftime", lambda form: "now")
    assert train("steps=1").status == 0
    assert train("steps=1").status == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["projected-now", "projected-now-2"]


def test_a_loss_that_is_not_finite_names_its_step(train, tmp_path):
    result = train("steps=30", "ruin=23", "checkpoint_every=10", "log_every=5", "--out", "run")
    assert refused(result, "loss", "step 23")
    run = tmp_path / "run"
    assert [row["step"] for row in rows(run)] == [5, 10, 15, 20]
    assert (run / "latest").read_text().strip() == "step-20"
    assert (run / "curves.png").stat().st_size > 1000
    assert refused(train("--resume", "run"), "step 23")  # and again: nothing was lost, nothing was mended


def test_a_network_that_does_not_fit_is_said_in_one_line(train, tmp_path):
    assert refused(train("hidden=1099511627776", "--out", "run"), "out of memory")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_batch_that_cannot_be_made_says_why(train, tmp_path, workers):
    assert refused(train("spoilt=7", f"workers={workers}", "--out", "run"), "row 7 is spoilt")


def test_a_worker_that_was_killed(tmp_path):
    result = forked(RECIPE, "spoilt=7", "fatal=true", "workers=1", "--out", "run", cwd=tmp_path)
    assert refused(result, "a worker ended")


def test_figures_that_are_not_finite_are_null(train, tmp_path, monkeypatch):
    monkeypatch.setattr(
        recipes.load(RECIPE), "evaluate", lambda *arguments: {"a": float("nan"), "b": float("inf"), "c": 1}
    )
    assert train("steps=2", "--out", "run").status == 0
    assert json.loads((tmp_path / "run" / "results.json").read_text()) == {"a": None, "b": None, "c": 1}


def test_evaluation_can_make_the_network_as_it_was(train, tmp_path, monkeypatch):
    kind, made, make = recipes.load(RECIPE), [], recipes.load(RECIPE).make_model

    def kept(self, data):
        net = make(self, data)
        made.append({name: value.clone() for name, value in net.state_dict().items()})
        return net

    monkeypatch.setattr(kind, "make_model", kept)
    monkeypatch.setattr(kind, "evaluate", lambda self, model, data, rows: self.make_model(data) and {})
    assert train("steps=2", "--out", "run").status == 0
    assert all(value.equal(made[-1][name]) for name, value in made[0].items())


def test_an_error_is_said_whatever_a_launcher_left_behind(train, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert refused(train("steps=0"), "steps")


def test_a_torch_that_is_too_old(tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text('__version__ = "2.9.1+cpu"\n')
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    result = spawn("graphgpt", cwd=tmp_path, PYTHONPATH=path)
    assert refused(result, "2.9.1", "2.10")


def test_no_torch_at_all(monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main([RECIPE]) == 2
    assert "torch is not installed" in capfd.readouterr().err
