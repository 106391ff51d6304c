"""Two gloo ranks against one process: the same numbers however the batch is cut."""

import json
import math
import os
import shutil
from collections import Counter

import pytest
import torch
from torch import nn

from sslkernels.pretrain import checkpoint, loop
from sslkernels.pretrain.config import TrainConfig, UserError
from sslkernels.pretrain.ranks import Ranks
from sslkernels.pretrain.recipe import Loss, Recipe

from .runs import RECIPE, forked_ranks, losses, rows, spawn

# 101 rows in batches of 10: the last of an epoch is one row, so one rank of two has none
KEYS = ("steps=24", "batch_size=10", "log_every=1", "checkpoint_every=12")
ALONE = Ranks(0, 1, torch.device("cpu"), owns_group=False)


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    folder = tmp_path_factory.mktemp("single")
    (result,) = forked_ranks(RECIPE, *KEYS, "--out", folder / "run", cwd=folder, world=1)
    assert result.status == 0, result.err
    return folder / "run"


def follows(run, single, within=1e-4):
    assert losses(run) == pytest.approx(losses(single), abs=within)
    for ours, theirs in zip(rows(run), rows(single), strict=True):
        assert ours["within_half"] == pytest.approx(theirs["within_half"], abs=0.02)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-3)
    return True


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize("accumulation", [1, 3])
def test_two_ranks_follow_one(tmp_path, single, parallel, accumulation):
    """torchtune #1875, mlx-lm #1413, Fast-LLM #426: a mean of means."""
    run = tmp_path / "run"
    keys = (*KEYS, f"parallel={parallel}", f"accumulation={accumulation}", "workers=1")
    first, second = forked_ranks(RECIPE, *keys, "--out", run, cwd=tmp_path)
    assert (first.status, second.status, first.err, second.err) == (0, 0, "", "")
    assert second.out == ""  # rank 0 alone speaks
    assert [line.split()[1] for line in first.out.splitlines() if line.startswith("step ")] == [
        f"{step}/24" for step in range(1, 25)
    ]
    assert follows(run, single)
    assert json.loads((run / "results.json").read_text()) == {"calls": 24}


@pytest.mark.parametrize(("before", "after"), [("fsdp", "single"), ("single", "fsdp"), ("ddp", "fsdp")])
def test_the_number_of_ranks_may_change_on_resume(tmp_path, train, single, before, after):
    run = tmp_path / "run"
    if before == "single":
        shutil.copytree(single, run)
        shutil.rmtree(run / "step-24")
    else:
        keys = (*KEYS, f"parallel={before}", "--out", run)
        stopped = forked_ranks(RECIPE, *keys, cwd=tmp_path, SIGNAL_AT="14:15")
        assert [each.status for each in stopped] == [143, 143]  # one rank got the signal, both stop
        assert (run / "latest").read_text() == "step-15\n"
    if after == "single":
        assert train("--resume", run).status == 0
    else:
        done = forked_ranks(RECIPE, "--resume", run, f"parallel={after}", cwd=tmp_path)
        assert [each.status for each in done] == [0, 0], done[0].err
    assert follows(run, single)


def test_losses_of_several_terms_keep_their_own_counts(tmp_path, train):
    keys = (*KEYS, "terms=true", "steps=12")
    assert train(*keys, "--out", "one").status == 0
    done = forked_ranks(RECIPE, *keys, "--out", tmp_path / "two", cwd=tmp_path)
    assert [each.status for each in done] == [0, 0], done[0].err
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-4)


def test_several_terms_are_refused_with_accumulation(train):
    result = train(*KEYS, "terms=true", "accumulation=2", "--out", "run")
    assert result.status == 2
    assert "accumulation" in result.err


def test_errors_end_every_rank_with_one_line(tmp_path):
    for arguments, word in ((["ruin=5"], "step 5"), (["--out", "/dev/null"], "/dev/null")):
        results = forked_ranks(RECIPE, *KEYS, *arguments, cwd=tmp_path)
        assert [each.status for each in results] == [2, 2]
        assert word in results[0].err
        assert results[0].err.count("\n") == 1
        assert results[1].err == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device that is always full")
def test_a_full_disk_ends_every_rank(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    os.symlink("/dev/full", run / "curves.png.tmp")
    results = forked_ranks(RECIPE, *KEYS, "parallel=fsdp", "--out", run, cwd=tmp_path)
    assert [each.status for each in results] == [2, 2], results
    assert "curves.png cannot be written: No space left" in results[0].err
    assert [each.err.count("\n") for each in results] == [1, 0]
    assert checkpoint.fault(run / "step-24") is None


def test_more_ranks_than_devices_is_said_by_the_first(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(UserError, match="more ranks here than CUDA devices"):
        Ranks.start(TrainConfig())


def test_a_launcher_that_says_too_little(train, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = train("--out", "run")
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert "MASTER_ADDR" in result.err


@pytest.mark.parametrize("workers", [0, 1])
def test_what_one_rank_meets_alone_is_said(tmp_path, workers):
    results = forked_ranks(
        RECIPE, *KEYS, "spoilt=7", f"workers={workers}", "--out", tmp_path / "run", cwd=tmp_path
    )
    assert [each.status for each in results] == [2, 2], results
    said = sorted(each.err for each in results)
    assert [each.count("\n") for each in said] == [1, 1]
    assert "another rank ended" in said[0]
    assert "row 7 is spoilt" in said[1]


def test_fewer_samples_than_ranks(tmp_path, train):
    keys = ("steps=4", "rows=2", "log_every=1", "accumulation=2")
    assert train(*keys, "--out", "one").status == 0
    for parallel in ("ddp", "fsdp"):
        run = tmp_path / parallel
        done = forked_ranks(RECIPE, *keys, f"parallel={parallel}", "--out", run, cwd=tmp_path, world=3)
        assert [each.status for each in done] == [0, 0, 0], done[0].err
        assert losses(run) == pytest.approx(losses(tmp_path / "one"), abs=1e-4)


def test_every_sample_once_an_epoch_with_ranks_and_workers(tmp_path):
    """datasets #3423, #5360; tfrecord #78: every worker read everything."""
    seen = tmp_path / "seen"
    done = forked_ranks(RECIPE, "steps=22", "batch_size=10", "workers=3", cwd=tmp_path, SEEN=str(seen))
    assert [each.status for each in done] == [0, 0], done[0].err
    counts = Counter(seen.read_text().splitlines())
    assert counts == {f"{epoch} {index}": 1 for epoch in range(2) for index in range(101)}


def test_torchrun(tmp_path, single):
    """lightning #6647, allennlp #1927: lines from every rank, a bar in a file."""
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    module = (*launch, "-m", "sslkernels.pretrain")
    result = spawn(RECIPE, *KEYS, "--out", "run", "log_every=12", cwd=tmp_path, module=module)
    assert result.status == 0, result.err
    assert "\r" not in result.out + result.err
    steps = [line.split()[1] for line in result.out.splitlines() if line.startswith("step ")]
    assert steps == ["12/24", "24/24"]
    assert losses(tmp_path / "run")[24] == pytest.approx(losses(single)[24], abs=1e-4)
    assert "Traceback" not in result.err


class Tokens(Recipe):
    """Parts are lists of token losses, all multiplied by one weight."""

    def loss(self, model, batch):
        return Loss((model.weight * batch).sum(), batch.numel(), {"half": (batch.sum() / 2, batch.numel())})


def test_a_loss_over_tokens_is_divided_once():
    """torchtune #1875: (2 + 4 + 6 + 10) / 4 = 5.5, not the mean of means 7; the gradient too."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    recipe = Tokens(TrainConfig(accumulation=3, clip=0.0))
    parts = iter([torch.tensor([2.0, 4.0, 6.0]), torch.tensor([10.0]), torch.tensor([])])
    totals = loop.accumulate(recipe, model, parts, ALONE, 0)
    assert totals.meet(ALONE, 0) == 0
    assert totals.loss == 5.5
    assert totals.metrics == {"half": 2.75}
    assert loop.finish_gradients(model, totals.scale, 0.0) == pytest.approx(5.5)
    assert model.weight.grad.item() == pytest.approx(5.5)


def test_clipping_comes_after_the_division():
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    totals = loop.accumulate(Tokens(TrainConfig()), model, iter([torch.full((4,), 3.0)]), ALONE, 0)
    totals.meet(ALONE, 0)
    assert loop.finish_gradients(model, totals.scale, 2.0) == pytest.approx(3.0)
    assert model.weight.grad.item() == pytest.approx(2.0, rel=1e-4)


def test_a_step_that_scores_nothing_changes_nothing_but_decay():
    model = nn.Linear(1, 1, bias=False)
    totals = loop.accumulate(Tokens(TrainConfig()), model, iter([torch.tensor([])]), ALONE, 0)
    totals.meet(ALONE, 0)
    assert totals.loss == 0.0
    assert math.isnan(totals.metrics["half"])
    assert loop.finish_gradients(model, totals.scale, 1.0) == 0.0
