"""The recipe mlm on real English: what it hides, what it learns, and that runs agree."""

import json
import shutil
import signal
from pydoc_data.topics import topics

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sslkernels.pretrain import text
from sslkernels.pretrain.probe import auc, ridge_auc
from sslkernels.pretrain.recipes import mlm
from sslkernels.pretrain.recipes.mlm import FRESH, Config, MaskedText
from sslkernels.pretrain.text import MASK, PAD, Document, train_tokenizer
from sslkernels.pretrain.text_model import IGNORED

from .runs import forked_ranks, losses
from .test_cli import refused

OBJECTIVES = ("mlm", "wwm", "slm", "rts", "crts", "electra")
SIZES = {"vocab_size": 500, "max_tokens": 32, "dim": 16, "layers": 1, "heads": 2, "clusters": 20}
SMALL = [f"{name}={value}" for name, value in SIZES.items()]
SMALL += [
    "probe_size=100",
    "probe_labels=40",
    "log_every=1",
    "warmup=3",
    "batch_size=16",
    "checkpoint_every=9",
]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Twelve topics and two bad lines."""
    lines = [json.dumps({"text": topics[name][:900]}) for name in sorted(topics)[:12]]
    lines[3:3] = ['{"txt": "no text"}', "no JSON"]
    path = tmp_path_factory.mktemp("data") / "some.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def texts(path, **changes):
    recipe = MaskedText(Config(**{**SIZES, **changes}), lambda line: None)
    return recipe.make_data(path)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_row_is_corrupted_alike_in_any_batch(path, objective):
    data = texts(path, objective=objective)
    torch.manual_seed(0)
    net = MaskedText(data.config).make_model(data)

    def batch(places, epoch):
        return net.corrupted(data.batch(np.array(places), epoch))

    together = batch(range(40), 3)
    for place in (0, 11, 39):
        alone = batch([place], 3)
        width = alone["ids"].shape[1]
        for name in ("ids", "labels", "selected"):
            assert torch.equal(alone[name][0], together[name][place, :width]), name
        assert (together["ids"][place, width:] == PAD).all()
    assert not torch.equal(batch([11], 4)["ids"], batch([11], 3)["ids"])


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_what_is_scored_and_what_stands_there(path, objective):
    data = texts(path, objective=objective)
    net = MaskedText(data.config).make_model(data)
    batches = [net.corrupted(data.batch(np.arange(len(data)), epoch)) for epoch in range(8)]
    original, ids, labels, chosen = (
        torch.stack([each[name] for each in batches]) for name in ("original", "ids", "labels", "selected")
    )
    text_there = original != PAD
    assert torch.equal(ids[~chosen], original[~chosen])
    assert (labels[~text_there] == IGNORED).all()
    assert 0.12 < chosen.sum() / text_there.sum() < 0.18
    if objective in ("rts", "crts"):
        assert torch.equal(labels[text_there], chosen[text_there].long())
    elif objective == "electra":
        assert torch.equal(labels[text_there], (ids != original)[text_there].long())
        assert torch.equal(chosen.sum(2), (0.15 * text_there.sum(2)).round().long())  # exactly so many
    else:
        assert torch.equal(labels[chosen], original[chosen])
        assert (labels[~chosen] == IGNORED).all()
    masked = (ids[chosen] == MASK).float().mean()
    assert 0.7 < masked < 0.9 if objective in ("mlm", "wwm") else masked == 0
    assert (ids[chosen] != PAD).all()


def test_whole_words_are_hidden_whole(path):
    data = texts(path, objective="wwm", rate=0.4)
    batch = data.batch(np.arange(len(data)), 0)
    _, words = data.rows.padded(np.arange(len(data)))
    several = 0
    for chosen, word in zip(batch["selected"], words, strict=True):
        for number in word[word >= 0].unique():
            of_word = chosen[word == number]
            assert of_word.all() or not of_word.any()
            several += len(of_word) > 1
    assert several > 50


def test_padding_is_not_read(path):
    data = texts(path)
    torch.manual_seed(0)
    net = MaskedText(data.config).make_model(data).eval()
    short = int(np.diff(data.rows.ptr).argmin())
    ids, _ = data.rows.padded(np.array([short, 0]))
    alone, _ = data.rows.padded(np.array([short]))
    ours = net.features(alone)[0]
    assert alone.shape[1] < ids.shape[1]
    torch.testing.assert_close(net.features(ids)[0, : len(ours)], ours, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_an_empty_batch_takes_part(path, objective):
    data = texts(path, objective=objective)
    recipe = MaskedText(data.config)
    net = recipe.make_model(data)
    loss = recipe.loss(net, data.batch(np.arange(0), 0))
    assert not loss.sum.any()
    assert not torch.as_tensor(loss.count).any()
    loss.sum.sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    recipe.after_step(net, 1)


def test_both_heads_are_one_loss(path):
    data = texts(path)
    batch = data.batch(np.arange(20), 0)
    found = []
    for head in ("ours", "dense"):
        recipe = MaskedText(Config(**SIZES, head=head))
        torch.manual_seed(0)
        net = recipe.make_model(data)
        loss = recipe.loss(net, batch)
        loss.sum.backward()
        found.append((loss.sum, loss.count, net.embedding.weight.grad))
    for ours, dense in zip(*found, strict=True):
        torch.testing.assert_close(ours, dense, rtol=1e-4, atol=1e-5)


def test_counts_move_once_for_all_parts(path):
    """Cut into parts, the batch is corrupted by the same counts and changes them by the same sum."""
    data = texts(path, objective="crts")
    recipe = MaskedText(data.config)
    changed = []
    for parts in (1, 3):
        torch.manual_seed(0)
        net = recipe.make_model(data)
        judged = 0
        for places in np.array_split(np.arange(30), parts):
            recipe.loss(net, data.batch(places, 0))
            judged += int(net.judged[-1][-1].sum())
        assert (net.clusters.counts == 1).all()
        recipe.after_step(net, 1)
        assert net.judged == []
        changed.append(net.clusters.counts.clone())
        assert 0 < int((net.clusters.counts - 1).abs().sum()) <= judged
    assert torch.equal(*changed)
    net.eval()
    recipe.loss(net, data.batch(np.arange(9), 1))
    assert net.judged == []


def test_electra_learns_from_both_losses(path):
    """The detector's loss reaches the generator by nothing but the embedding that they share."""
    data = texts(path, objective="electra")
    recipe = MaskedText(data.config)
    torch.manual_seed(0)
    net = recipe.make_model(data)
    batch = data.batch(np.arange(30), 0)
    loss = recipe.loss(net, batch)
    generator, detector = loss.metrics["generator_loss"], loss.metrics["detector_loss"]
    assert loss.sum.tolist() == pytest.approx([float(generator[0]), 50.0 * float(detector[0])])
    assert loss.count.tolist() == [int(batch["selected"].sum()), int((batch["original"] != PAD).sum())]
    loss.sum[1].backward(retain_graph=True)
    assert not any(parameter.grad.any() for parameter in (*net.generator.parameters(), net.bias))
    loss.sum[0].backward()
    assert all(parameter.grad.any() for parameter in net.generator.parameters())
    shown = batch["ids"][batch["selected"]]
    assert 0.75 < (shown == MASK).float().mean() < 0.95
    assert torch.equal(shown[shown != MASK], batch["original"][batch["selected"]][shown != MASK])


@pytest.fixture(scope="module")
def single(path, tmp_path_factory):
    """One uninterrupted run an objective."""
    folder = tmp_path_factory.mktemp("single")
    for objective in OBJECTIVES:
        keys = ("mlm", *SMALL, f"objective={objective}", "steps=40", "lr=1e-2")
        arguments = (*keys, "--data", path, "--out", folder / objective)
        (result,) = forked_ranks(*arguments, cwd=folder, world=1)
        assert result.status == 0, result.err + result.out
        (folder / f"{objective}.out").write_text(result.out)
    return folder


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_loss_falls(single, objective):
    values = list(losses(single / objective).values())
    assert np.mean(values[-5:]) < 0.93 * np.mean(values[:3])


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_what_a_run_reports(single, objective):
    out = (single / f"{objective}.out").read_text()
    figures = json.loads((single / objective / "results.json").read_text())
    names = {"step_ms", "probe_auc", "probe_auc_untrained"}
    of_objective = {
        "rts": {"detection_auc", "step_ms_rts", "step_ms_mlm", "step_ms_mlm_dense"},
        "crts": {"detection_auc", "detection_auc_rts"},
        "electra": {"detection_auc"},
    }
    assert figures.keys() == names | of_objective.get(objective, {"accuracy", "majority"})
    assert all(f"{name.replace('_', ' ')}: " in out for name in figures)
    for word in ("some.jsonl: line 4: no text", "line 5: ", "2 of 14 lines"):
        assert word in out
    assert all(0 <= value <= 1 for name, value in figures.items() if "ms" not in name)


@pytest.mark.parametrize(
    ("objective", "keys"),
    [
        ("mlm", ("parallel=ddp", "accumulation=2", "workers=2")),
        ("wwm", ("parallel=fsdp",)),
        ("rts", ("parallel=ddp",)),
        ("crts", ("parallel=ddp", "accumulation=3")),
        ("crts", ("parallel=fsdp",)),
        ("electra", ("parallel=ddp", "workers=1")),
        ("electra", ("parallel=fsdp",)),
    ],
)
def test_two_ranks_follow_one(tmp_path, path, single, objective, keys):
    run = tmp_path / "run"
    every = (*SMALL, f"objective={objective}", "steps=40", "lr=1e-2", *keys)
    results = forked_ranks("mlm", *every, "--data", path, "--out", run, cwd=tmp_path)
    assert [each.status for each in results] == [0, 0], results[0].err
    ours, theirs = losses(run), losses(single / objective)
    if objective == "electra":  # 50 times as large; and a draw that rounding tips over changes the batch
        early = range(1, 11)
        assert [ours[step] for step in early] == pytest.approx([theirs[step] for step in early], abs=2e-4)
        assert ours == pytest.approx(theirs, rel=0.05)
    else:
        assert ours == pytest.approx(theirs, abs=1e-4)
    if objective == "crts":
        ours, theirs = (
            load_file(each / "step-40" / "weights.safetensors") for each in (run, single / "crts")
        )
        apart = (ours["clusters.counts"] - theirs["clusters.counts"]).abs().sum()
        moved = (theirs["clusters.counts"] - 1).abs().sum()
        assert apart <= 0.005 * moved  # a logit at 0 falls to one side or the other


@pytest.mark.parametrize(("objective", "step"), [("crts", 4), ("crts", 25), ("wwm", 13), ("electra", 12)])
def test_going_on_after_sigterm(train, tmp_path, path, single, monkeypatch, objective, step):
    from sslkernels.pretrain import loop

    original = loop.finish_gradients
    left = [step]

    def signalled(*arguments):
        left[0] -= 1
        if left[0] == 0:
            signal.raise_signal(signal.SIGTERM)
        return original(*arguments)

    def trained(*arguments):
        raise AssertionError("the run's own tokenizer and clusters are there")

    monkeypatch.setattr(loop, "finish_gradients", signalled)
    keys = (*SMALL, f"objective={objective}", "steps=40", "lr=1e-2", "--data", path, "--out", "run")
    assert train(*keys, recipe="mlm").status == 143
    for name in ("train_tokenizer", "token_clusters"):
        monkeypatch.setattr(mlm, name, trained)
    assert train("--resume", "run", recipe="mlm").status == 0
    assert losses(tmp_path / "run") == pytest.approx(losses(single / objective), abs=1e-6)
    ours, theirs = (
        load_file(each / "step-40" / "weights.safetensors") for each in (tmp_path / "run", single / objective)
    )
    if objective == "crts":
        assert torch.equal(ours["clusters.counts"], theirs["clusters.counts"])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", None),
        ("tokenizer.json", "{"),
        ("tokenizer.json", "\xff"),
        ("clusters.json", None),
        ("clusters.json", "[1, 2]"),
        ("clusters.json", "{"),
    ],
)
def test_what_stands_beside_is_needed(train, tmp_path, single, name, content):
    run = shutil.copytree(single / "crts", tmp_path / "run")
    if content is None:
        (run / name).unlink()
    else:
        (run / name).write_bytes(content.encode("latin-1"))
    assert refused(train("--resume", "run", "steps=50", recipe="mlm"), name)


def test_another_tokenizer_is_refused(train, tmp_path, single):
    run = shutil.copytree(single / "crts", tmp_path / "run")
    other = train_tokenizer([Document("", "one two three")], 400).to_str()
    (run / "tokenizer.json").write_text(other)
    assert refused(train("--resume", "run", "steps=50", recipe="mlm"), "clusters.json")
    (run / "tokenizer.json").write_text(other.replace("[PAD]", "<pad>"))
    assert refused(train("--resume", "run", "steps=50", recipe="mlm"), "tokenizer.json")
    run = shutil.copytree(single / "rts", tmp_path / "rts")
    (run / "tokenizer.json").write_text(other)
    assert refused(train("--resume", "rts", "steps=50", recipe="mlm"), "step-40")


def test_another_python_is_noticed(train, tmp_path, monkeypatch):
    """The default text belongs to the interpreter: a run does not go on with that of another one."""
    few = (Document("topic a", "Assignment statements bind names to values.\n" * 40),)
    more = (*few, Document("b.py", "# comments are lines that begin with a hash character\n" * 40))
    for each in (text, mlm):
        monkeypatch.setattr(each, "interpreter_text", lambda: more)
    assert train(*SMALL, "steps=2", "--out", "run", recipe="mlm").status == 0
    assert train(*SMALL, "steps=3", "--resume", "run", recipe="mlm").status == 0
    for each in (text, mlm):
        monkeypatch.setattr(each, "interpreter_text", lambda: few)
    assert refused(train("steps=4", "--resume", "run", recipe="mlm"), "--data")
    (tmp_path / "own.txt").write_text("words of my own\n" * 30)
    assert refused(train("steps=4", "--resume", "run", "--data", "own.txt", recipe="mlm"), "own.txt")


@pytest.mark.parametrize("content", ["", " \n\n", "\xff\xfe", "binary\0"])
def test_data_without_text(train, tmp_path, content):
    (tmp_path / "some.txt").write_bytes(content.encode("latin-1"))
    assert refused(train("--data", "some.txt", recipe="mlm"), "some.txt")
    assert [each.name for each in tmp_path.iterdir()] == ["some.txt"]


def test_a_run_inside_its_own_data(train, tmp_path):
    (tmp_path / "some.txt").write_text("Words, words.\n" * 50)
    for arguments in (["--data", "."], ["--data", ".", "--out", "deeper/run"]):
        assert refused(train(*SMALL, *arguments, recipe="mlm"), "--data", "--out")
    assert [each.name for each in tmp_path.iterdir()] == ["some.txt"]


def test_no_data_at_all(train, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.jsonl").write_text("[]\n1\nnull\n")
    for name in ("nowhere", "empty", "bad.jsonl"):
        assert refused(train("--data", name, recipe="mlm"), name)


@pytest.mark.parametrize(
    "assignment",
    [
        *("objective=smtp", "head=sparse", "dim=30", "heads=0", "rate=0", "rate=1", "rate=nan", "dropout=1"),
        *("vocab_size=256", "max_tokens=0", "clusters=0", "clusters=500 vocab_size=300", "beta=-1"),
        *(
            "probe_labels=0",
            "probe_labels=99 probe_size=99",
            "objective=rts head=dense",
            "objective=electra accumulation=2",
        ),
        *("generator_dim=12", "generator_layers=0"),
    ],
)
def test_keys_of_the_recipe(train, tmp_path, assignment):
    words = [word.split("=")[0] for word in assignment.split()]
    result = train(*assignment.split(), recipe="mlm")
    assert refused(result)
    assert any(word in result.err for word in words)
    assert list(tmp_path.iterdir()) == []


def test_areas():
    scores = torch.tensor([0.1, 0.4, 0.4, 0.8])
    positive = torch.tensor([False, True, False, True])
    assert auc(scores, positive) == pytest.approx((1 + 0.5 + 1 + 1) / 4)
    assert auc(-scores, positive) == pytest.approx(1 - 3.5 / 4)
    assert np.isnan(auc(scores, torch.ones(4, dtype=torch.bool)))
    generator = torch.Generator().manual_seed(0)
    kind = torch.rand(400, generator=generator) < 0.5
    noise = torch.randn(400, 8, generator=generator)
    assert 0.4 < ridge_auc(noise, kind, labels=50) < 0.6
    assert ridge_auc(noise + 3.0 * kind[:, None], kind, labels=50) > 0.99


def test_accuracy_and_detection_are_of_fresh_masks(path):
    data = texts(path)
    torch.manual_seed(0)
    net = MaskedText(data.config).make_model(data).eval()
    with torch.no_grad():
        figures = mlm.prediction(net, data)
    labels = data.batch(np.arange(len(data)), FRESH)["labels"]
    scored = labels[labels != IGNORED]
    assert figures["majority"] == pytest.approx(float((scored == scored.mode().values).float().mean()))
    assert 0 <= figures["accuracy"] < 0.2
    data = texts(path, objective="crts")
    net = MaskedText(data.config).make_model(data).eval()
    with torch.no_grad():
        figures = mlm.detection(net, data)
    assert all(0.3 < each < 0.7 for each in figures.values())


def test_rows_are_cut_at_their_length(path):
    data = texts(path, max_tokens=7)
    assert np.diff(data.rows.ptr).max() == 7
