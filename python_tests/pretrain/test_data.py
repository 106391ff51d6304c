import multiprocessing.context
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sslkernels.pretrain.config import UserError
from sslkernels.pretrain.data import Arrays, Plan, batches, checksum, part_seed, permuted

from .runs import spawn


@given(size=st.integers(1, 3000), seed=st.integers(0, 2**63 - 1), epoch=st.integers(0, 2**40))
@settings(max_examples=60, deadline=None)
def test_an_epoch_is_a_permutation(size, seed, epoch):
    order = permuted(np.arange(size), size, seed, epoch)
    assert np.array_equal(np.sort(order), np.arange(size))
    some = np.arange(size)[:: max(size // 7, 1)]
    assert np.array_equal(permuted(some, size, seed, epoch), order[some])  # any place by itself


def test_places_are_uniform_and_epochs_differ():
    size, epochs = 6, 1200
    counts = np.zeros((size, size))
    for epoch in range(epochs):
        counts[np.arange(size), permuted(np.arange(size), size, 3, epoch)] += 1
    expected = epochs / size
    assert ((counts - expected) ** 2 / expected).sum() < 60  # chi-square, 25 degrees of freedom, p < 1e-4


def test_neighbours_part():
    order = permuted(np.arange(10_000), 10_000, 0, 0)
    correlation = np.corrcoef(order[:-1], order[1:])[0, 1]
    assert abs(correlation) < 0.05


def test_the_order_is_frozen():
    """A change of these numbers breaks the resuming of every run there is."""
    assert permuted(np.arange(10), 10, 0, 0).tolist() == [7, 1, 2, 6, 5, 0, 4, 3, 8, 9]
    assert permuted(np.arange(10), 10, 2**62, 5).tolist() == [8, 9, 1, 5, 4, 7, 6, 0, 3, 2]
    assert part_seed(1, 2, 3) == 8609455089888733932


@given(
    size=st.integers(1, 60),
    batch=st.integers(1, 25),
    parts=st.integers(1, 4),
    world=st.integers(1, 4),
    epoch=st.integers(0, 3),
)
@settings(max_examples=80, deadline=None)
def test_each_sample_once_an_epoch_however_it_is_cut(size, batch, parts, world, epoch):
    ranks = [Plan(size, batch, 5, parts, rank, world) for rank in range(world)]
    seen = []
    for step in range(epoch * ranks[0].steps_per_epoch, (epoch + 1) * ranks[0].steps_per_epoch):
        whole = np.concatenate([plan.share(step, part) for part in range(parts) for plan in ranks])
        assert np.array_equal(whole, Plan(size, batch, 5).samples(step))  # the same global batch
        assert len(whole) == ranks[0].count(step)
        seen.append(whole)
        assert ranks[0].seen(step) == epoch * size + sum(map(len, seen))
    assert np.array_equal(np.sort(np.concatenate(seen)), np.arange(size))
    assert all(len(step) == batch for step in seen[:-1])


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_change_nothing(workers):
    data = Arrays(value=torch.arange(23) ** 2)
    plan = Plan(23, 5, 9, accumulation=2)
    with batches(data, plan, range(3, 12), workers) as parts:
        got = list(parts)
    assert len(got) == 18
    for place, batch in enumerate(got):
        expected = plan.share(3 + place // 2, place % 2)
        assert batch["index"].tolist() == expected.tolist()
        assert batch["value"].tolist() == (expected**2).tolist()


def test_a_worker_needs_no_module_that_can_be_imported(monkeypatch):
    """Newer Pythons start workers afresh, where a recipe's file is no module."""
    monkeypatch.setattr(multiprocessing.context, "_default_context", multiprocessing.get_context("spawn"))

    class Local(Arrays):
        pass

    with batches(Local(value=torch.arange(4)), Plan(4, 2, 0), range(2), workers=1) as parts:
        got = list(parts)
    assert sorted(torch.cat([batch["value"] for batch in got]).tolist()) == [0, 1, 2, 3]


def test_any_number_of_steps_takes_no_memory():
    with batches(Arrays(value=torch.arange(3)), Plan(3, 2, 0, 2), range(10**5, 10**15), 0) as parts:
        assert len(next(parts)["value"]) == 1


def test_workers_have_ended_however_the_loop_is_left():
    """A traceback keeps the loader alive, and Python waits at its end for workers that ignore its signal."""
    data = Arrays(value=torch.arange(10**4))

    def leave():
        with batches(data, Plan(10**4, 2, 0), range(4000), 2) as parts:
            next(parts)
            assert len(multiprocessing.active_children()) == 2
            raise LookupError

    with pytest.raises(LookupError) as kept:
        leave()
    assert kept.traceback
    assert not multiprocessing.active_children()


def test_columns_of_unlike_length_are_refused():
    with pytest.raises(ValueError, match="different lengths"):
        Arrays(a=torch.zeros(2), b=torch.zeros(3))


def test_a_checksum_follows_names_and_contents(tmp_path):
    folder = tmp_path / "data"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.txt").write_text("a")
    (folder / "b.txt").write_text("b")
    before = checksum(folder)
    assert checksum(folder) == before
    (folder / "b.txt").rename(folder / "c.txt")
    renamed = checksum(folder)
    (folder / "c.txt").write_text("c")
    assert len({before, renamed, checksum(folder)}) == 3
    with pytest.raises(UserError, match="nowhere"):
        checksum(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")  # what is read for its sum could not be read again
    with pytest.raises(UserError, match="pipe is neither a file nor a folder"):
        checksum(tmp_path / "pipe")


def test_importing_the_command_line_stays_light(tmp_path):
    """--list reads the recipes and imports none of them, nor torch."""
    code = (
        "import sys; from sslkernels.pretrain import cli; cli.main(['--list']); print('torch' in sys.modules)"
    )
    result = spawn("-c", code, cwd=tmp_path, module=())
    assert result.status == 0
    assert result.out.splitlines()[-1] == "False"
