"""The recipe graphgpt, on real molecules: what it hides, what it reads, and that runs agree."""

import json
import shutil
import signal

import numpy as np
import pytest
import torch

from sslkernels.pretrain.recipes.graphgpt import (
    FRESH,
    IGNORED,
    Config,
    GraphEulerianTransformer,
    GraphGPT,
    Walks,
    accuracy,
    pooled,
)
from sslkernels.pretrain.smiles import Molecules, nci_smiles

from .runs import forked_ranks, losses, rows
from .test_cli import refused

SMALL = ("dim=16", "layers=1", "heads=2", "probe_labels=20", "probe_size=200", "log_every=1", "warmup=3")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """101 molecules and two bad lines: in batches of 10 the last of an epoch is one molecule."""
    lines = nci_smiles().read_text().splitlines()[:101]
    lines[40:40] = ["C1CC 40b", "no-molecule"]
    path = tmp_path_factory.mktemp("data") / "some.smi"
    path.write_text("\n".join(lines) + "\n")
    return path


def walks(path, **changes):
    config = Config(dim=16, layers=2, heads=2, **changes)
    return Walks(config, Molecules.read(path, config.scope, lambda text: None))


def molecule(batch, place, name):
    """The rows of one molecule of a batch, in the order of its walk."""
    return batch[name][batch["graph"] == place]


def test_a_molecule_is_walked_and_masked_alike_in_any_batch(path):
    data = walks(path)
    together = data.batch(np.arange(60), epoch=3)
    for place in (0, 17, 59):
        alone = data.batch(np.array([place]), epoch=3)
        for name in ("tokens", "labels", "positions"):
            assert torch.equal(molecule(alone, 0, name), molecule(together, place, name))
    later = data.batch(np.array([17]), epoch=4)
    ours, theirs = molecule(later, 0, "tokens"), molecule(together, 17, "tokens")
    assert ours.shape != theirs.shape or not torch.equal(ours, theirs)


def test_a_hidden_node_is_hidden_at_every_visit(path):
    """Independent masks at a rate of one half leave a third of the masked nodes visible elsewhere."""
    data = walks(path, schedule="fixed", high=0.5, random=0.0, kept=0.0)
    hidden = visible = 0
    for epoch in range(5):
        batch = data.batch(np.arange(101), epoch)
        masked = batch["labels"] != IGNORED
        assert torch.equal(masked.any(-1), masked.all(-1))  # a row is hidden whole
        assert (batch["tokens"][masked] == data.tokenizer.mask_id).all()
        for place in range(101):
            node = torch.where(masked[..., 0], batch["labels"][..., 0], batch["tokens"][..., 0])
            ids, rows_masked = node[batch["graph"] == place], masked[..., 0][batch["graph"] == place]
            assert not set(ids[rows_masked].tolist()) & set(ids[~rows_masked].tolist())
            hidden, visible = hidden + int(rows_masked.sum()), visible + int((~rows_masked).sum())
    assert 0.4 < hidden / (hidden + visible) < 0.6


def test_nothing_behind_the_molecules_is_scored(path):
    for objective in ("smtp", "ntp"):
        batch = walks(path, objective=objective, schedule="fixed", high=1.0).batch(np.arange(30), 0)
        assert (batch["labels"][batch["graph"] < 0] == IGNORED).all()
        scored = (batch["labels"] != IGNORED).all(-1)
        last = {"smtp": 0, "ntp": 30}[objective]  # nothing follows the last row of each molecule
        assert int(((batch["graph"] >= 0) & ~scored).sum()) == last


def test_next_tokens_are_the_next_row(path):
    batch = walks(path, objective="ntp").batch(np.arange(30), 0)
    for place in range(30):
        tokens, labels = molecule(batch, place, "tokens"), molecule(batch, place, "labels")
        assert torch.equal(labels[:-1], tokens[1:].long())
        assert (labels[-1] == IGNORED).all()


def network(data):
    torch.manual_seed(0)
    return GraphEulerianTransformer(data.config, data.tokenizer.vocab_size).eval()


def test_molecules_of_a_row_do_not_see_each_other(path):
    data = walks(path)
    net = network(data)
    together = data.batch(np.arange(40), 1)
    features = net.features(together)
    for place in (3, 39):
        alone = data.batch(np.array([place]), 1)
        ours = net.features(alone)[alone["graph"] == 0]
        torch.testing.assert_close(ours, features[together["graph"] == place], atol=1e-5, rtol=1e-5)
    sums = pooled(features, together["graph"])
    assert sums.shape == (40, 16)
    torch.testing.assert_close(sums[7], features[together["graph"] == 7].sum(0))


def test_next_tokens_are_not_read(path):
    data = walks(path, objective="ntp")
    net, batch = network(data), data.batch(np.array([5]), 0)
    before = net.features(batch)
    changed = batch["tokens"].clone()
    changed[0, 6:] = 3
    after = net.features({**batch, "tokens": changed})
    assert torch.equal(before[0, :6], after[0, :6])
    assert not torch.equal(before[0, 6], after[0, 6])


def test_accuracy_counts_scored_tokens(path):
    data = walks(path)
    share, majority = accuracy(network(data), data)
    labels = torch.cat([data.batch(each, FRESH)["labels"].flatten(0, 1) for each in [np.arange(101)]])
    right = [column[column != IGNORED].mode().values for column in labels.T]
    expected = sum(int((column == most).sum()) for column, most in zip(labels.T, right, strict=True))
    assert majority == pytest.approx(expected / int((labels != IGNORED).sum()))
    assert 0 <= share < majority


def test_an_empty_batch_takes_part(path):
    for objective in ("smtp", "ntp"):
        data = walks(path, objective=objective)
        net = network(data)
        loss = GraphGPT(data.config).loss(net, data.batch(np.arange(0), 0))
        assert (loss.sum.item(), loss.count) == (0.0, 0)
        loss.sum.backward()
        for name, parameter in net.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() == 0


@pytest.fixture(scope="module")
def single(path, tmp_path_factory):
    """One uninterrupted run an objective."""
    folder = tmp_path_factory.mktemp("single")
    for objective in ("smtp", "ntp"):
        keys = (
            "graphgpt",
            *SMALL,
            f"objective={objective}",
            "steps=24",
            "batch_size=10",
            "checkpoint_every=9",
        )
        (result,) = forked_ranks(*keys, "--data", path, "--out", folder / objective, cwd=folder, world=1)
        assert result.status == 0, result.err + result.out
    return folder


@pytest.mark.parametrize(
    ("objective", "keys"),
    [
        ("smtp", ("parallel=ddp", "accumulation=2", "workers=2")),
        ("smtp", ("parallel=fsdp",)),
        ("ntp", ("parallel=fsdp", "accumulation=3")),
        ("ntp", ("parallel=ddp",)),
    ],
)
def test_two_ranks_follow_one(tmp_path, path, single, objective, keys):
    run = tmp_path / "run"
    every = (*SMALL, f"objective={objective}", "steps=24", "batch_size=10", *keys)
    results = forked_ranks("graphgpt", *every, "--data", path, "--out", run, cwd=tmp_path)
    assert [each.status for each in results] == [0, 0], results[0].err
    assert losses(run) == pytest.approx(losses(single / objective), abs=1e-4)


@pytest.mark.parametrize("step", [8, 13, 23])
def test_going_on_after_sigterm(train, tmp_path, path, single, monkeypatch, step):
    from sslkernels.pretrain import loop

    original = loop.finish_gradients
    left = [step]

    def signalled(*arguments):
        left[0] -= 1
        if left[0] == 0:
            signal.raise_signal(signal.SIGTERM)
        return original(*arguments)

    monkeypatch.setattr(loop, "finish_gradients", signalled)
    keys = (*SMALL, "steps=24", "batch_size=10", "checkpoint_every=9", "--data", path, "--out", "run")
    assert train(*keys, recipe="graphgpt").status == 143
    assert train("--resume", "run", recipe="graphgpt").status == 0
    assert losses(tmp_path / "run") == pytest.approx(losses(single / "smtp"), abs=1e-6)


def test_what_a_run_reports(single):
    for objective, what in (("smtp", "masked-token"), ("ntp", "next-token")):
        out = (single / "rank0" / "out").read_text() if objective == "ntp" else None
        figures = json.loads((single / objective / "results.json").read_text())
        assert figures.keys() >= {"accuracy", "majority", "probe_rmse", "probe_rmse_untrained"}
        if out is not None:
            for word in (f"{what} accuracy", "probe RMSE", "samples/s", "serialization", "curves.png"):
                assert word in out
            assert [word for word in ("line 41: ", "line 42: ", "2 of 103") if word in out] == [
                "line 41: ",
                "line 42: ",
                "2 of 103",
            ]
        assert {"serialization_ms", "loss", "lr", "samples_per_second"} <= rows(single / objective)[0].keys()


@pytest.mark.parametrize(
    ("content", "word"),
    [("bad\nworse\n", "some.smi"), ("", "some.smi"), ("\xff\x00", "some.smi")],
)
def test_data_without_a_molecule(train, tmp_path, content, word):
    path = tmp_path / "some.smi"
    path.write_bytes(content.encode("latin-1"))
    assert refused(train("--data", path, recipe="graphgpt"), word)
    assert [each.name for each in tmp_path.iterdir()] == ["some.smi"]


def test_other_data_are_refused_on_resume(train, tmp_path, path, single):
    shutil.copytree(single / "smtp", tmp_path / "run")
    copy = shutil.copy(path, tmp_path / "copy.smi")
    assert train("--resume", "run", "--data", copy, recipe="graphgpt").status == 0  # the same bytes
    with open(copy, "a") as file:
        file.write("CCO\n")
    assert refused(train("--resume", "run", "--data", copy, recipe="graphgpt"), "copy.smi")


def test_data_that_moved_or_changed_are_named(train, tmp_path):
    data = tmp_path / "some.smi"
    data.write_text("CCO\nCCN\nCCC\n")
    keys = (*SMALL, "steps=1", "--data", data, "--out", "run")
    assert train(*keys, recipe="graphgpt").status == 0
    data.write_text("CCO\nCCN\n")
    assert refused(train("--resume", "run", recipe="graphgpt"), "some.smi", "what the run was started with")
    data.unlink()
    assert refused(train("--resume", "run", recipe="graphgpt"), "some.smi", "is gone")


@pytest.mark.parametrize(
    "keys", [("objective=ntp",), ("scope=1",), ("random=0.9", "kept=0.1"), ("lr=1e38", "warmup=0", "steps=1")]
)
def test_little_to_learn_ends_a_run_like_any_other(train, tmp_path, keys):
    """Nothing is scored, nothing is left for the linear model, or the last step threw the weights away."""
    (tmp_path / "one.smi").write_text("C\n")
    arguments = (*SMALL, "steps=2", *keys, "--data", "one.smi", "--out", "run")
    assert train(*arguments, recipe="graphgpt").status == 0
    text = (tmp_path / "run" / "results.json").read_text()
    assert "null" in text
    assert "NaN" not in text


@pytest.mark.parametrize(
    "assignment",
    [
        "objective=mlm",
        "dim=30",
        "heads=0",
        "low=0.5 high=0.2",
        "dropout=1",
        "power=0",
        "limit=-1",
        "schedule=sine",
        "high=0",
        "probe_labels=0",
        "probe_labels=4001",
        "scope=1000000000000",
        "max_tokens=100000000",
        "random=0.9 kept=0.11",
    ],
)
def test_keys_of_the_recipe(train, tmp_path, assignment):
    assert refused(train(*assignment.split(), recipe="graphgpt"), assignment.split()[-1].split("=")[0])
    assert list(tmp_path.iterdir()) == []
